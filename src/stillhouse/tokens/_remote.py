"""Token stores elsewhere (`s3://…`): a copy of their index here, token files fetched whole when they are needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..core.errors import StoreError
from ..core.fetched import FILES, FetchedFiles, NoFile, is_left
from ..core.keys import digest
from ._segments import SET_WEIGHTS, Segment, content_digest, read_manifest
from .store import TokenStore

_NO_BOUND = 1 << 62
_BESIDE = ("packing.json",)
"""What may lie beside the segments and is worth having here."""


def open_remote(url: str, *, fingerprint: str | None = None, files: FetchedFiles = FILES) -> TokenStore:
    """The store in the folder at `url`. Its index is copied; token files are fetched into `files` when they are read.

    Raises `RecipeError` where there is none or the server cannot be reached.
    """
    address = url.rstrip("/")
    folder = files.folder / "stores" / digest(address.encode())
    # Apart from the token files: the index stays, so nothing may be deleted to make room while it is copied.
    passing = folder / f"fetching-{uuid.uuid4().hex}"
    reader = FetchedFiles(passing, _NO_BOUND)
    try:
        _copy(reader, f"{address}/manifest.json", folder / "manifest.json")
        manifest = read_manifest(folder)
        remote = RemoteFolder(address, files.folder, files.max_bytes)
        wanted = [segment for segment in manifest.segments if not _has_index(folder, segment)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda segment: _copy_index(address, segment, folder, passing), wanted))
        if manifest.weights is not None:
            _copy(reader, f"{address}/{SET_WEIGHTS}", folder / SET_WEIGHTS)
        for name in _BESIDE:
            try:
                _copy(reader, f"{address}/{name}", folder / name)
            except NoFile:  # whatever else is wrong must not look like a store that has none
                (folder / name).unlink(missing_ok=True)
    finally:
        for left in (passing, *filter(is_left, folder.glob("fetching-*"))):
            shutil.rmtree(left, ignore_errors=True)
    return TokenStore(folder, fingerprint=fingerprint, remote=remote)


class RemoteFolder:
    """Files of the segments below an address, fetched whole and checked against the manifest's digests."""

    def __init__(self, address: str, folder: Path, max_bytes: int) -> None:
        self.address = address
        self.max_bytes = max_bytes
        self._files = FetchedFiles(folder, max_bytes)
        # A second one over the same folder: reading a file that is here does not wait for one that is being fetched.
        self._ahead = FetchedFiles(folder, max_bytes)
        self._changed = threading.Condition()
        self._wanted: list[tuple[Segment, str]] = []
        self._busy: tuple[str, str] | None = None
        self._thread: threading.Thread | None = None

    def path(self, segment: Segment, name: str) -> Path:
        with self._changed:
            self._changed.wait_for(lambda: self._busy != (segment.name, name))  # rather than fetch it a second time
        return self._path(self._files, segment, name)

    def fetch_ahead(self, wanted: Sequence[tuple[Segment, str]]) -> None:
        with self._changed:
            self._wanted = list(wanted)
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stillhouse-fetch", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = None
                self._changed.notify_all()
                if not self._wanted:
                    self._thread = None
                    return
                segment, name = self._wanted.pop(0)
                self._busy = (segment.name, name)
            # Whatever is wrong, not only in our words, is said to the reader who comes to need the file.
            with contextlib.suppress(Exception):
                self._path(self._ahead, segment, name)

    def _path(self, files: FetchedFiles, segment: Segment, name: str) -> Path:
        found = files.find(self._url(segment, name))
        if found.digest != segment.files[name]:
            raise _other_content(found.url)
        return files.local(found)

    def _url(self, segment: Segment, name: str) -> str:
        return _url(self.address, segment, name)


def _url(address: str, segment: Segment, name: str) -> str:
    return f"{address}/segments/{segment.name}/{name}"


def _copy_index(address: str, segment: Segment, folder: Path, passing: Path) -> None:
    """Put the document index of a segment below `folder`, checked; each with files of its own, to fetch at once."""
    url, target = _url(address, segment, "docs.arrow"), folder / "segments" / segment.name / "docs.arrow"
    _copy(FetchedFiles(passing / segment.name, _NO_BOUND), url, target)
    if content_digest(target) != segment.files["docs.arrow"]:
        target.unlink(missing_ok=True)
        raise _other_content(url)


def _has_index(folder: Path, segment: Segment) -> bool:
    """Whether the document index of a segment was copied before, and is not that of another segment of its name."""
    path = folder / "segments" / segment.name / "docs.arrow"
    return path.is_file() and content_digest(path) == segment.files["docs.arrow"]


def _copy(files: FetchedFiles, url: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    shutil.copyfile(files.local(files.find(url)), part)
    os.replace(part, target)


def _other_content(url: str) -> StoreError:
    return StoreError(
        f"`{url}` is damaged: its content is not what the manifest of the store says", "Upload the store again."
    )
