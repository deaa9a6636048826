"""Where rows lie: files of this machine, folders, data sets of the hub, addresses of other servers."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from ..core.errors import RecipeError
from ..core.files import InputFile

Format = Literal["json", "jsonl", "csv", "tsv", "parquet", "arrow", "dataset"]
FORMATS: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_NAMED: dict[str, Format] = {
    "json": "json",
    "jsonl": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
    "arrow": "arrow",
    "dataset": "dataset",
}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


class HubData(NamedTuple):
    """`hf://owner/name@revision:config`, or `hf://datasets/owner/name@revision/data/*.parquet`."""

    name: str
    revision: str | None
    config: str | None
    files: str | None


class Place(InputFile):
    """A path, a pattern, a folder, or an address. `format://` in front says how to read it: `parquet://data/*`."""

    __slots__ = ("text",)

    def __init__(self, path: str | os.PathLike[str] | InputFile) -> None:
        self.text: str = (
            path.text if isinstance(path, Place) else str(path) if isinstance(path, InputFile) else os.fspath(path)
        )
        super().__init__(self.text)
        if self.is_hub:
            hub_data(self)  # a name that is none is told at once

    @property
    def named_format(self) -> Format | None:
        """The format that stands in front."""
        match = _SCHEME.fullmatch(self.text)
        return _NAMED.get(match[1]) if match else None

    @property
    def bare(self) -> str:
        """The place without the format in front; of `file://` addresses the path."""
        match = _SCHEME.fullmatch(self.text)
        rest = match[2] if match and match[1] in _NAMED else self.text
        return rest.removeprefix("file://")

    @property
    def scheme(self) -> str:
        """`hf`, `s3`, `https`, …; "" for files of this machine."""
        match = _SCHEME.fullmatch(self.bare)
        return match[1] if match else ""

    @property
    def is_hub(self) -> bool:
        return self.scheme == "hf"

    @property
    def is_pattern(self) -> bool:
        return any(sign in self.bare for sign in "*?[")

    @property
    def format(self) -> Format | None:
        """The format that the place tells: by what stands in front, its extension, or being no file; None: it does not.

        A place without an extension is taken for a folder.
        """
        if self.named_format is not None or self.is_hub:
            return self.named_format or "dataset"
        end = format_of(self.bare)
        if end is not None or self.scheme or self.is_pattern:
            return end
        return "dataset" if not PurePosixPath(self.bare).suffix or Path(self.bare).expanduser().is_dir() else None

    def beside(self, folder: Path) -> "Place":
        """The same, counted from `folder` where it is a relative path."""
        if self.scheme or Path(self.bare).expanduser().is_absolute():
            return self
        return self._with(str(folder / self.bare))

    def relative_to(self, folder: Path) -> "Place":
        """The same, as a path from `folder` where it is one of this machine."""
        return self if self.scheme else self._with(os.path.relpath(Path(self.bare).expanduser(), folder))

    def _with(self, bare: str) -> "Place":
        return Place(bare if self.named_format is None else f"{self.named_format}://{bare}")

    @property
    def digest(self) -> str:
        """Digest of the content; raises `RecipeError` where it cannot be read."""
        return Content((self,), self.format, None).digest

    def __str__(self) -> str:
        return self.text

    def __fspath__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Place({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def _validated(cls, value: Any) -> "Place":
        if isinstance(value, InputFile | str | os.PathLike):
            return cls(value)
        raise ValueError("expected the path of a file, a pattern, a folder, or an address such as hf://owner/name")


class Content(InputFile):
    """All that is read from some places. It counts by the content in its order, not by the places."""

    __slots__ = ("format", "places", "split")

    def __init__(self, places: tuple[Place, ...], format: Format | None, split: str | None) -> None:
        self.places, self.format, self.split = places, format, split
        super().__init__(str(self))

    @property
    def digest(self) -> str:
        from ._files import content_digest

        return content_digest(self)

    def __str__(self) -> str:
        return " ".join(map(str, self.places)) + ("" if self.split is None else f" split={self.split}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self.places, self.format, self.split) == (
            other.places,
            other.format,
            other.split,
        )

    def __hash__(self) -> int:
        return hash((self.places, self.format, self.split))


def places_of(value: Any) -> Place | tuple[Place, ...] | None:
    """What a user gave, as one place or several."""
    if value is None or isinstance(value, str | os.PathLike | InputFile):
        return None if value is None else Place(value)
    if not isinstance(value, list | tuple):
        raise ValueError("expected a path, or a list of paths")
    if not value:
        raise ValueError("the list of files is empty")
    return tuple(Place._validated(item) for item in value)


def format_of(name: str) -> Format | None:
    """The format that a file's extension tells; one of a compression is looked through."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name.partition("?")[0]).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        inner = FORMATS.get(suffixes[-2]) if len(suffixes) > 1 else None
        return None if inner in ("parquet", "arrow") else inner
    return FORMATS.get(suffixes[-1]) if suffixes else None


def hub_data(place: Place) -> HubData:
    """What a place on the hub names; raises `RecipeError` where it has no owner and name."""
    rest = place.bare.removeprefix("hf://")
    in_files = rest.startswith("datasets/")
    rest = rest.removeprefix("datasets/")
    match = re.fullmatch(r"([^/@:]+/[^/@:]+)(?:@([^:]+?))?(?::([^:]+))?", rest)
    if match is not None and not (in_files and "/" in (match[2] or "")):
        return HubData(match[1], match[2], match[3], None)
    match = re.fullmatch(r"([^/@:]+/[^/@:]+)(?:@([^/:]+))?/(.+)", rest) if in_files else None
    if match is None:
        raise RecipeError(
            f"`{place}` is no data set of the hub",
            "Write `hf://owner/name`, with `@revision` and `:config` after it where they matter.",
        )
    return HubData(match[1], match[2], None, match[3])
