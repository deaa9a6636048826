"""The content-addressed store: finished artifacts by build key, unfinished work, the index of recipes.

```
artifacts-v1/ab/<build key>/   record.json, data/, dropped.parquet, failed.parquet
recipes-v1/ab/<recipe key>.json   which build a recipe led to, and the digest of its content
work-v1/<build key>/           unfinished work, its journal and lock
set-aside-v1/                  what was found damaged
```
A result appears by one rename, so a reader never sees half of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .artifact import KINDS, Artifact
from .errors import StoreError
from .keys import digest_of, file_digest

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Known:
    """What the index tells of a recipe: the build it led to and the digest of its content."""

    build_key: str
    digest: str
    outputs: Mapping[str, str]

    def digest_of(self, output: str | None) -> str | None:
        return self.digest if output is None else self.outputs.get(output)


class Store:
    """A session folder on disk. All paths inside it are relative to `folder`, so it can be moved and copied."""

    def __init__(self, folder: Path, warn: Callable[[str], None] = print) -> None:
        self.folder = folder
        self._warn = warn
        self._verified: set[str] = set()
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self.artifacts.mkdir(exist_ok=True)
            self.recipes.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(error, folder) from error

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts-v1"

    @property
    def recipes(self) -> Path:
        return self.folder / "recipes-v1"

    @property
    def work(self) -> Path:
        return self.folder / "work-v1"

    def artifact_folder(self, build_key: str) -> Path:
        return self.artifacts / build_key[:2] / build_key

    def work_folder(self, build_key: str) -> Path:
        return self.work / build_key

    def begin_work(self, build_key: str, inputs: Sequence[str]) -> None:
        """Write down what unfinished work stands on, for `gc`."""
        write_json(self.work_folder(build_key) / "inputs.json", list(inputs))

    def inputs_of_work(self, build_key: str) -> list[str]:
        """The build keys that unfinished work stands on."""
        try:
            found = json.loads((self.work_folder(build_key) / "inputs.json").read_bytes())
        except (OSError, ValueError):
            return []
        return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []

    def has(self, build_key: str) -> bool:
        return (self.artifact_folder(build_key) / "record.json").exists()

    def open(self, build_key: str) -> Artifact | None:
        """The artifact, its files checked against their digests (once in this process); None when there is none.

        What is damaged is set aside with a warning and counts as missing, so that it is made again.
        """
        folder = self.artifact_folder(build_key)
        record = read_record(folder)
        if record is None:
            if folder.exists():
                self._set_aside(folder, "its record cannot be read")
            return None
        if build_key not in self._verified:
            found = damage(folder, record)
            if found is not None:
                self._set_aside(folder, found)
                return None
            self._verified.add(build_key)
        return KINDS[record["kind"]](folder, record)

    def output(self, artifact: Artifact, name: str) -> Artifact:
        """One output of an artifact that has several."""
        return KINDS["Rows"](artifact.folder, artifact.record, name)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of all artifacts, newest first; unreadable ones are passed over."""
        found = []
        for path in self.artifacts.glob("*/*/record.json"):
            record = read_record(path.parent)
            if record is not None:
                found.append(record)
        yield from sorted(found, key=lambda record: record["finished"], reverse=True)

    def remember(self, recipe_key: str, known: Known, step: Mapping[str, Any]) -> None:
        """Write the index entry of a recipe."""
        path = self.recipes / recipe_key[:2] / f"{recipe_key}.json"
        entry = {"build_key": known.build_key, "digest": known.digest, "outputs": dict(known.outputs), **step}
        write_json(path, entry)

    def entry(self, recipe_key: str) -> dict[str, Any] | None:
        """The index entry of a recipe; a damaged one is only a lost short cut."""
        try:
            entry = json.loads((self.recipes / recipe_key[:2] / f"{recipe_key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return entry if _is_entry(entry) else None

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All index entries with their recipe keys."""
        for path in self.recipes.glob("*/*.json"):
            entry = self.entry(path.stem)
            if entry is not None:
                yield path.stem, entry

    def recall(self, recipe_key: str) -> Known | None:
        """What the index knows of a recipe; the artifact itself may be gone."""
        entry = self.entry(recipe_key)
        return None if entry is None else Known(entry["build_key"], entry["digest"], entry["outputs"])

    def finish(self, build_key: str, result: Path, record: dict[str, Any], *, replace: bool = False) -> Artifact:
        """Publish a finished folder: digests, record, one rename; `replace` sets aside what stands in its place."""
        record = {"format": FORMAT, **record, "files": file_list(result)}
        if not record.get("digest"):
            data_files = [entry for entry in record["files"] if entry["path"].startswith("data/")]
            record["digest"] = digest_of([[entry["path"], entry["digest"]] for entry in data_files])
        write_json(result / "record.json", record)
        target = self.artifact_folder(build_key)
        target.parent.mkdir(exist_ok=True)
        try:
            aside = self._move_aside(target) if replace else None
            os.rename(result, target)
            if aside is not None and (read_record(aside) or {}).get("digest") == record["digest"]:
                shutil.rmtree(aside)  # the same rows, made again
        except OSError as error:
            if not self.has(build_key):
                raise disk_error(error, target) from error
            shutil.rmtree(result)  # another process published the same result first
        self._verified.add(build_key)
        return KINDS[record["kind"]](target, record)

    def recover(self, build_key: str) -> Artifact | None:
        """A result that was whole when its process was killed, just before the rename by which it appears."""
        result = self.work_folder(build_key) / "result"
        record = read_record(result)
        if record is None or record["build_key"] != build_key or damage(result, record) is not None:
            return None
        target = self.artifact_folder(build_key)
        target.parent.mkdir(exist_ok=True)
        try:
            os.rename(result, target)
        except OSError:
            return None
        return self.open(build_key)

    def _set_aside(self, folder: Path, why: str) -> None:
        target = self._move_aside(folder)
        self._warn(f"artifact {folder.name[:8]} is damaged ({why}); set aside in `{target}`, it will be made again")

    def _move_aside(self, folder: Path) -> Path:
        target = self.folder / "set-aside-v1" / f"{folder.name}-{int(time.time() * 1000)}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, target)
        return target


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of an artifact folder, or None when there is none that can be read."""
    try:
        record: dict[str, Any] = json.loads((folder / "record.json").read_bytes())
    except (OSError, ValueError):
        return None
    return record if _is_record(record) else None


def _is_record(record: Any) -> bool:
    """Whether a file holds a record of this format."""
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("kind") not in list(KINDS):
        return False
    texts = all(isinstance(record.get(name), str) for name in ("build_key", "recipe_key", "tag", "digest"))
    times = all(isinstance(record.get(name), int | float) for name in ("started", "finished"))
    lists = all(
        isinstance(record.get(name), list) and all(isinstance(each, dict) for each in record[name])
        for name in ("inputs", "files")
    )
    return texts and times and lists


def _is_entry(entry: Any) -> bool:
    """Whether a file holds an entry of the index."""
    if not isinstance(entry, dict):
        return False
    kinds = {"build_key": str, "digest": str, "outputs": dict, "inputs": list, "definition": dict}
    return all(isinstance(entry.get(name), kind) for name, kind in kinds.items()) and all(
        isinstance(each, list) and len(each) == 3 for each in entry["inputs"]
    )


def file_list(folder: Path) -> list[dict[str, Any]]:
    """Every file under `folder` with size and digest, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [
        {"path": name, "size": (folder / name).stat().st_size, "digest": file_digest(folder / name)}
        for name in names
        if name != "record.json"
    ]


def damage(folder: Path, record: Mapping[str, Any]) -> str | None:
    """What is wrong with an artifact's files by their sizes and digests; None when they are as they were written."""
    for entry in record["files"]:
        path = folder / entry["path"]
        try:
            if path.stat().st_size != entry["size"]:
                return f"`{entry['path']}` has {path.stat().st_size} bytes, expected {entry['size']}"
            if file_digest(path) != entry["digest"]:
                return f"the content of `{entry['path']}` is not what was written"
        except OSError as error:
            return f"`{entry['path']}` cannot be read: {error.strerror}"
    return None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename, so that it is there whole or not at all."""
    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file by rename, so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> StoreError:
    """An operating system's refusal in words that say what to do."""
    number = error.errno or told_number(error)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk is full: `{path}` could not be written",
            "Free some room (`stillhouse gc` removes what no name reaches) and run the same command: it goes on.",
        )
    if number in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StoreError(
            f"`{path}` cannot be written: {os.strerror(number)}",
            "Choose a folder you may write to, or change its permissions.",
        )
    return StoreError(f"`{path}`: {error.strerror or error}")


def disk_trouble(error: BaseException, path: Path) -> StoreError | None:
    """The `StoreError` for an operating system's refusal, also for one that reached us in a library's own error."""
    if isinstance(error, OSError):
        return disk_error(error, Path(error.filename or path))
    number = told_number(error)
    return None if number is None else disk_error(OSError(number, os.strerror(number)), path)


def told_number(error: BaseException) -> int | None:
    """The operating system's number in the words of a library written in Rust, as safetensors is."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return None if told is None else int(told[1])
