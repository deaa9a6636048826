"""The series of a run as JSON lines, cut back to the last checkpoint when the run is taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO


class History:
    """A file that grows by a line at each update."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def start(self, size_bytes: int) -> None:
        """Go on after the first `size_bytes`."""
        self.path.touch()
        os.truncate(self.path, size_bytes)
        self._file = self.path.open("ab")

    def add(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None, "start() comes first"
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def flush(self) -> int:
        """Bring all lines to the disk; returns the size in bytes."""
        assert self._file is not None, "start() comes first"
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
