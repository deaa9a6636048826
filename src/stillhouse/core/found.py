"""Which kept replies unfinished steps have found, whoever paid for them: `prune` must leave those, too.

A step's own calls are known by its key. Here stand the keys of the others, beside its work, and go when that is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from io import FileIO
from pathlib import Path

FILE = "found"
_KEY_BYTES = 16


class Found:
    """Notes what steps find. `work_of`: the folder in which a step works, by its key; there is none for who asks
    outside of a step."""

    def __init__(self, work_of: Callable[[str], Path] | None = None) -> None:
        self._work_of = work_of
        self._files: dict[str, FileIO | None] = {}

    def note(self, step: str, keys: Collection[bytes]) -> None:
        """The step has found these. Written before they are used; what the disk refuses is no reason to fail."""
        if not (keys and step and self._work_of):
            return
        if step not in self._files:
            self._files[step] = None
            with contextlib.suppress(OSError):
                self._files[step] = FileIO(self._work_of(step) / FILE, "a")
        file = self._files[step]
        if file is not None:
            with contextlib.suppress(OSError):
                file.write(b"".join(keys))

    def forget(self, step: str) -> None:
        """The step is over, or begins anew."""
        file = self._files.pop(step, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        for step in list(self._files):
            self.forget(step)


def found_in(work: Path) -> Iterator[bytes]:
    """The keys that unfinished work below this folder has found; one may come several times."""
    for path in work.glob(f"*/{FILE}"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            while len(key := file.read(_KEY_BYTES)) == _KEY_BYTES:
                yield key


def take_over(found: Path, target: Path) -> None:
    """Put what one piece of work found beside another."""
    with contextlib.suppress(FileNotFoundError):
        data = (found / FILE).read_bytes()
        with open(target / FILE, "ab") as file:
            file.write(data)
