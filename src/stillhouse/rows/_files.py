"""From places to files: what a pattern matches, what a folder holds, what the hub or another server gives."""

from __future__ import annotations

import difflib
import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..core.errors import RecipeError
from ..core.fetched import FILES, Found
from ..core.files import InputFile
from ..core.keys import digest_of
from .place import COMPRESSED, FORMATS, Content, Format, Place, format_of

NUM_SHOWN = 8
_NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


class Entry(NamedTuple):
    """What counts of a place or one of its files, and what messages say of it."""

    name: str
    digest: str
    size: int | None
    format: Format = "dataset"


class DataFile(Protocol):
    """A file to read: its name for messages, how it is read, and where it lies here (fetched, if need be)."""

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> Format: ...
    def local(self) -> Path: ...


@dataclass(frozen=True)
class LocalFile:
    path: Path
    format: Format

    @property
    def name(self) -> str:
        return str(self.path)

    def local(self) -> Path:
        return self.path

    def entry(self) -> Entry:
        digest = InputFile(self.path).digest
        return Entry(self.name, digest, self.path.stat().st_size, self.format)


@dataclass(frozen=True)
class RemoteFile:
    found: Found
    format: Format

    @property
    def name(self) -> str:
        return self.found.url

    def local(self) -> Path:
        return FILES.local(self.found)

    def entry(self) -> Entry:
        return Entry(self.found.url, self.found.digest, self.found.size, self.format)


def content_digest(content: Content) -> str:
    """The digest of one file as it is; of several, that of their formats and digests in order.

    Keeps the listing, so that a later change can be told by file.
    """
    entries = entries_of(content)
    _planned[content] = entries
    if len(entries) == 1 and (content.format or content.places[0].format) not in (None, "dataset"):
        return entries[0].digest
    return digest_of([[entry.format, entry.digest] for entry in entries])


_planned: dict[Content, list[Entry]] = {}


def planned(content: Content) -> list[Entry] | None:
    """The listing when the content was last counted in this process."""
    return _planned.get(content)


def entries_of(content: Content) -> list[Entry]:
    """What counts, in order. A data set of the hub is one entry: its commit and what of it is meant."""
    entries: list[Entry] = []
    for place in content.places:
        if place.is_hub:
            from ._hub_data import hub_entry

            entries.append(hub_entry(place, content.split))
        else:
            entries.extend(file.entry() for file in _files_at(place, content.format, content.split))
    return entries


def files_of(content: Content) -> list[DataFile]:
    """The files to read, in order; raises `RecipeError` where a place gives none."""
    found: list[DataFile] = []
    for place in content.places:
        if place.is_hub:
            from ._hub_data import hub_files

            found.extend(hub_files(place, content.split))
        else:
            found.extend(_files_at(place, content.format, content.split))
    return found


def _files_at(place: Place, format: Format | None, split: str | None) -> Sequence[LocalFile | RemoteFile]:
    given = format or place.format
    if split is not None and (given != "dataset" or place.scheme):
        raise RecipeError(
            f"`{place}` has no splits, but `split={split!r}` was given",
            "Leave `split` out; it is for data sets of the hub and folders that `save_to_disk` wrote.",
        )
    if place.scheme:
        return _remote_files(place, given)
    return _local_files(place, given, split)


def _remote_files(place: Place, given: Format | None) -> list[RemoteFile]:
    urls = FILES.matching(place.bare)
    if not urls:
        raise RecipeError(f"nothing matches `{place}`", _shown_names(FILES.beside(place.bare), "Beside it lie"))
    return [RemoteFile(FILES.find(url), _format(given, url, place)) for url in urls]


def _local_files(place: Place, given: Format | None, split: str | None) -> list[LocalFile]:
    path = Path(place.bare).expanduser()
    if path.is_dir():
        return _folder_files(path, given, split)
    if given == "dataset" and not glob.has_magic(place.bare):
        if path.is_file():
            raise RecipeError(
                f"the name of `{path}` does not tell its format",
                f"Give `format`: {', '.join(sorted(set(FORMATS.values())))}.",
            )
        raise RecipeError(f"there is no folder `{path}`", _beside(path))
    if path.exists() or not glob.has_magic(place.bare):
        return [LocalFile(path, _format(given, place.bare, place))]
    names = sorted(glob.glob(str(path), recursive=True), key=lambda name: Path(name).as_posix())
    files = [Path(name) for name in names if not os.path.isdir(name)]
    if not files:
        raise RecipeError(f"nothing matches `{place}`", _beside(path))
    return [LocalFile(file, _format(given, file.name, place)) for file in files]


def _format(given: Format | None, name: str, place: Place) -> Format:
    """How a file is read. Where nothing was said for all, its own extension tells."""
    found = given if given not in (None, "dataset") else format_of(name)
    if found is None:
        raise RecipeError(
            f"the extension of `{name}` does not tell its format",
            f"Give `format`, or name files that end in {', '.join(FORMATS)}"
            + ("." if name == place.bare else f" (`{place}` matches this one too)."),
        )
    return found


def _folder_files(folder: Path, given: Format | None, split: str | None) -> list[LocalFile]:
    """A folder that `save_to_disk` wrote, or all files of data in any other."""
    if given in (None, "dataset"):
        if (folder / "dataset_dict.json").is_file():
            return _saved_split(folder, split)
        if (folder / "state.json").is_file():
            return _saved(folder, split)
    if split is not None:
        raise RecipeError(f"`{folder}` has no splits, but `split={split!r}` was given", "Leave `split` out.")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if not _hidden(name) and name.rpartition("/")[2] not in _NO_DATA]
    data = [name for name in names if format_of(name) is not None and given in (None, "dataset", format_of(name))]
    if not data:
        raise RecipeError(f"the folder `{folder}` holds no data", _shown_names(names, "In it lie"))
    first = data[0]
    for name in data:
        if format_of(name) != format_of(first):
            raise RecipeError(
                f"the folder `{folder}` holds files of several formats: `{first}` and `{name}`",
                f"Name those that are meant, for instance `{folder}/**/*{Path(first).suffix}`.",
            )
    return [LocalFile(folder / name, _format(given, name, Place(str(folder)))) for name in data]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _saved_split(folder: Path, split: str | None) -> list[LocalFile]:
    splits = _json(folder / "dataset_dict.json").get("splits") or []
    chosen = chosen_split(str(folder), [str(name) for name in splits], split)
    return _saved(folder / chosen, None)


def _saved(folder: Path, split: str | None) -> list[LocalFile]:
    state = _json(folder / "state.json")
    own = state.get("_split")
    if split is not None and split != own:
        raise RecipeError(f"the data set in `{folder}` is the split `{own}`, not `{split}`", "Leave `split` out.")
    names = [str(file["filename"]) for file in state.get("_data_files") or []]
    if not names:
        raise RecipeError(f"`{folder / 'state.json'}` names no files", "Save the data set anew with `save_to_disk`.")
    return [LocalFile(folder / name, "arrow") for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"`{path}` cannot be read: {error}", "Save the data set anew with `save_to_disk`.") from error
    return found if isinstance(found, dict) else {}


def chosen_split(place: str, splits: Sequence[str], split: str | None) -> str:
    """The split that was asked for, or the only one; raises `RecipeError` that names those that there are."""
    listed = ", ".join(f"`{name}`" for name in splits) or "none"
    if split is None:
        if len(splits) == 1:
            return splits[0]
        raise RecipeError(f"`{place}` has several splits: {listed}", 'Say which, for instance `split="train"`.')
    if split in splits:
        return split
    base = split.partition("[")[0]
    if base in splits:
        raise RecipeError(
            f"`split={split!r}`: parts of a split are taken by steps",
            f'`split="{base}"`, then `Take`, `Skip` or `Sample` on the rows.',
        )
    close = difflib.get_close_matches(split, list(splits), n=1)
    hint = f"Did you mean `{close[0]}`?" if close else f"Its splits: {listed}."
    raise RecipeError(f"`{place}` has no split `{split}` (it has {listed})", hint)


def _beside(path: Path) -> str:
    """What lies where nothing was found: in the nearest folder that exists."""
    folder = Path(path.anchor) if path.is_absolute() else Path()
    for part in path.parts[1 if path.is_absolute() else 0 : -1]:
        if glob.has_magic(part):
            break
        if not (folder / part).is_dir():
            close = difflib.get_close_matches(part, _names(folder), n=1)
            meant = f" Did you mean `{folder / close[0]}`?" if close else ""
            return f"There is no folder `{folder / part}` (looked from {os.getcwd()}).{meant}"
        folder = folder / part
    return _shown_names(_names(folder), f"In `{folder}` lie")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def _shown_names(names: Sequence[str], lead: str) -> str:
    if not names:
        return f"{lead.removesuffix(' lie')} lies nothing." if lead.endswith(" lie") else ""
    more = len(names) - NUM_SHOWN
    return f"{lead}: {', '.join(names[:NUM_SHOWN])}{f' and {more} more' if more > 0 else ''}."


def is_compressed(name: str) -> bool:
    return name.lower().endswith(COMPRESSED)
