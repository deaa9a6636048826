"""The journal of unfinished work: one line for each finished piece, so that a killed step goes on where it stood.

A line is appended by one write after the piece's files are in place. A torn last line is dropped; a piece whose file
does not match its digest ends the trusted part.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from .keys import digest
from .store import disk_error, write_bytes

JOURNAL = "journal.jsonl"


class Journal:
    """Lines of JSON, each with a checksum, in order of writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The entries that were written whole."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in data.split(b"\n")[:-1]:
            checksum, _, body = line.partition(b" ")
            if checksum != b"%08x" % crc32(body):
                return
            yield json.loads(body)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry; it survives kill -9 of this process from here on."""
        line = _line(entry)
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if os.write(self._file, line) != len(line):  # a disk that fills up takes the first part and says nothing
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise disk_error(error, self._path) from error

    def keep(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Leave these of its entries and cut all others, torn ends included."""
        self.close()
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        kept = b"".join(map(_line, entries))
        if kept != data:
            write_bytes(self._path, kept)  # by rename: a kill in between loses nothing

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(entry: Mapping[str, Any]) -> bytes:
    body = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %b\n" % (crc32(body), body)


class Pieces:
    """A journal whose entries own files: `{"files": {name: digest}}` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = Journal(folder / JOURNAL)

    def restore(self) -> list[dict[str, Any]]:
        """The entries whose files are all as they were written; from the first damaged one on all is forgotten."""
        good: list[dict[str, Any]] = []
        for entry in self._journal.entries():
            if not all(self._whole(name, known) for name, known in entry["files"].items()):
                break
            good.append(entry)
        self.keep(good)
        return good

    def keep(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Leave these entries with their files and forget the rest.

        Files that belong to no entry are taken away: they would be found beside those of the next attempt, whose pieces
        may be cut differently.
        """
        self._journal.keep(entries)
        known = {JOURNAL, *(name for entry in entries for name in entry["files"])}
        for path in self.folder.iterdir():
            if path.name not in known:
                path.unlink()

    def commit(self, entry: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Write the files, then the entry that makes them count."""
        digests = {}
        for name, data in files.items():
            path = self.folder / name
            try:
                path.write_bytes(data)
            except OSError as error:
                raise disk_error(error, path) from error
            digests[name] = digest(data)
        self._journal.append({**entry, "files": digests})

    def close(self) -> None:
        self._journal.close()

    def _whole(self, name: str, known: str) -> bool:
        try:
            return digest((self.folder / name).read_bytes()) == known
        except OSError:
            return False
