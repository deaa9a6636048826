"""Images in messages, by reference: a URL as it stands, a file by the digest of its content.

`{"type": "image", "image": "photos/cat.png"}` and the form of OpenAI (`{"type": "image_url", "image_url": …}`) are
taken. A file is read and inlined when the request is sent; what counts in keys is its content and not its place.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.core.errors import RowFault
from stillhouse.core.keys import digest, file_digest


class Image(NamedTuple):
    """An image as a dialect sends it: a URL, or base64 data with its media type."""

    media_type: str
    url: str | None
    data: str | None

    @property
    def any_url(self) -> str:
        """The URL, or the data as one."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.data}"


def is_image(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("image", "image_url") and _reference(part) is not None


def settled(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with the digest of each image file beside its path; where there is none, with the reason."""
    return [_with_parts(message, _settled_part) for message in messages]


def counted(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Settled messages as they count in keys: a digest has taken the place of each path."""
    return [_with_parts(message, _counted_part) for message in messages]


def has_parts(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message holds a list of parts, among which images may be."""
    return any(isinstance(message.get("content"), list | tuple) for message in messages)


def image_of(part: Mapping[str, Any]) -> Image:
    """The image of a settled part, its file read; raises `RowFault` where that has changed since."""
    reference = str(_reference(part))
    if "://" in reference:
        return Image(_media_type(reference), reference, None)
    if reference.startswith("data:"):
        head, _, data = reference.partition(",")
        return Image(head[5:].split(";")[0] or "image/png", None, data)
    if "missing" in part:
        raise RowFault("error", f"the image `{reference}` cannot be read: {part['missing']}")
    try:
        content = Path(reference).read_bytes()
    except OSError as error:
        raise RowFault("error", f"the image `{reference}` cannot be read: {error.strerror or error}") from None
    if digest(content) != part.get("digest"):
        raise RowFault("error", f"the image `{reference}` was changed while it was asked about")
    return Image(_media_type(reference), None, base64.b64encode(content).decode())


def _with_parts(message: Mapping[str, Any], change: Any) -> Mapping[str, Any]:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [change(part) if is_image(part) else part for part in content]}


def _settled_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = str(_reference(part))
    if "digest" in part or "missing" in part or "://" in reference or reference.startswith("data:"):
        return part
    try:
        about = {"digest": file_digest(reference)}
    except OSError as error:  # it is the fault of one row, which is told when that is to be sent
        about = {"missing": error.strerror or str(error)}
    return {**part, "type": "image", "image": reference, **about}


def _counted_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "digest" not in part:
        return part
    return {name: value for name, value in part.items() if name not in ("image", "image_url")}


def _reference(part: Mapping[str, Any]) -> str | None:
    found = part.get("image", part.get("image_url"))
    if isinstance(found, Mapping):
        found = found.get("url")
    return found if isinstance(found, str) else None


def _media_type(name: str) -> str:
    guessed = mimetypes.guess_type(name.partition("?")[0])[0]
    return guessed if guessed is not None and guessed.startswith("image/") else "image/png"
