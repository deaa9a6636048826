"""Canonical form and digest of values: the ground on which every key stands.

The form is JSON with types kept apart, sorted, and the same in every process, Python version and machine. What has no
stable form is refused with a message, never hashed by luck.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import os
import re
import threading
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any

from .errors import RecipeError

DIGEST_BYTES = 16

Special = Callable[[Any], Any]
"""Gives the canonical form of what only the caller knows (a part, a step, a function), else `UNKNOWN`."""

UNKNOWN = object()


def digest(data: bytes) -> str:
    """blake2b of 128 bits, as 32 hexadecimal digits."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_of(form: Any) -> str:
    """Digest of a canonical form as `canonical` returns it."""
    return digest(json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def canonical(value: Any, special: Special | None = None, where: str = "value") -> Any:
    """The canonical form of `value`: nested lists, dicts, strings, integers, booleans and None.

    Raises `RecipeError` naming `where` when a value has no stable form.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return canonical(value.value, special, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, float):
        return _number(value, where)
    if special is not None:
        form = special(value)
        if form is not UNKNOWN:
            return form
    if isinstance(value, Mapping):
        pairs = [[canonical(k, special, where), canonical(v, special, f"{where}[{k!r}]")] for k, v in value.items()]
        return {"map": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if isinstance(value, list | tuple):
        return [canonical(item, special, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        items = [canonical(item, special, where) for item in value]
        return {"set": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
    return _scalar(value, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(
            f"`{where}` holds half a character (a lone surrogate) at position {error.start}",
            "Mend the text where it is read, for instance with `text.encode(errors='replace').decode()`.",
        ) from None
    return value


def _number(value: float, where: str) -> dict[str, str]:
    if math.isnan(value):
        raise RecipeError(f"`{where}` is not a number (NaN), which equals nothing, itself included", "Use None.")
    return {"float": repr(float(value) + 0.0)}  # + 0.0 turns -0.0 into 0.0


def _scalar(value: Any, where: str) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return {"time": value.isoformat()}
    if isinstance(value, dt.timedelta):
        return {"seconds": repr(value.total_seconds())}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value.normalize())}
    if isinstance(value, re.Pattern):
        return {"pattern": [value.pattern, int(value.flags)]}
    if isinstance(value, PurePath):
        raise RecipeError(
            f"`{where}` is a path, and a place must not decide what a result is called",
            "Declare the field as `InputFile` (counts by content) or give the place to the session.",
        )
    kind = type(value)
    raise RecipeError(
        f"`{where}` is a {kind.__module__}.{kind.__qualname__}, which has no stable form",
        "Use plain values, parts, steps, or a function at the top of a module.",
    )


_file_digests: dict[str, tuple[tuple[int, int, int], str]] = {}
_file_lock = threading.Lock()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's content, read in blocks; remembered while size, time and inode stay as they are."""
    name = os.path.abspath(path)
    with open(name, "rb") as file:
        stat = os.fstat(file.fileno())
        signature = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        with _file_lock:
            known = _file_digests.get(name)
        if known is not None and known[0] == signature:
            return known[1]
        state = blake2b(digest_size=DIGEST_BYTES)
        while block := file.read(1 << 20):
            state.update(block)
    with _file_lock:
        _file_digests[name] = (signature, state.hexdigest())
    return state.hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of all files under `folder`: relative names and contents."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return digest_of([[name, file_digest(folder / name)] for name in names])
