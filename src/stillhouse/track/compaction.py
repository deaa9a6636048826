"""Keeping files few: finished runs move into shared Parquet files behind one manifest.

    runs/.index/manifest.json        which files hold which runs; replaced by one rename
    runs/.index/metrics-<n>.parquet  metrics of settled runs, sorted by run
    runs/.index/runs-<n>.parquet     their records, as JSON text

A reader takes the manifest as it finds it. A run that is opened again is struck out of it and counts by its own folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..core.errors import StoreError
from ..core.locks import taken

FORMAT = 1
LOOSE_RUNS = 200
"""Loose runs from which compaction pays: a query over 10,000 files took seconds, over 100 hundredths of one."""


@dataclass
class Shared:
    """One pair of shared files: `metrics-<number>.parquet` and `runs-<number>.parquet`."""

    number: int
    runs: list[str]
    struck: list[str] = field(default_factory=list)
    """Runs that stand in the files but count from elsewhere now."""

    @property
    def metrics_name(self) -> str:
        return f"metrics-{self.number}.parquet"

    @property
    def runs_name(self) -> str:
        return f"runs-{self.number}.parquet"


@dataclass
class Manifest:
    """The shared files in the order in which they were written."""

    folder: Path
    parts: list[Shared] = field(default_factory=list)
    number: int = 0

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """The manifest as it stands; an empty one where nothing was compacted yet."""
        folder = store / "runs" / ".index"
        try:
            value = json.loads((folder / "manifest.json").read_bytes())
        except FileNotFoundError:
            return cls(folder)
        except ValueError as error:
            raise StoreError(
                f"`{folder / 'manifest.json'}` cannot be read: {error}",
                "Restore it from a copy; runs that were not compacted are not concerned.",
            ) from None
        if value.get("format") != FORMAT:
            raise StoreError(f"`{folder}` has the format {value.get('format')}, this version reads {FORMAT}")
        return cls(folder, [Shared(**part) for part in value["parts"]], value["number"])

    def write(self) -> None:
        value = {"format": FORMAT, "number": self.number, "parts": [asdict(part) for part in self.parts]}
        temporary = self.folder / f".manifest-{os.getpid()}.json"
        temporary.write_text(json.dumps(value))
        os.replace(temporary, self.folder / "manifest.json")

    @property
    def held(self) -> set[str]:
        """Ids of the runs that count from the shared files."""
        found: set[str] = set()
        for part in self.parts:
            found.update(set(part.runs) - set(part.struck))
        return found


def compact(store: str | os.PathLike[str], *, at_least: int = 1) -> int:
    """Move runs that are over into the shared files; returns how many. Does nothing below `at_least` such runs.

    Safe while others write and read: a process that finds another one compacting leaves it alone (0). Runs that crashed
    are settled first, with what they had written.
    """
    folder = Path(store)
    try:
        num_runs = len(os.listdir(folder / "runs"))
    except FileNotFoundError:
        return 0
    if num_runs - len(Manifest.read(folder).held) < at_least:
        return 0
    from ._compaction import move

    with taken(_lock(folder)) as held:
        return move(folder, at_least) if held else 0


def reopen(store: Path, run_id: str) -> None:
    """Strike a run out of the manifest and give its folder its metrics back, so that it can go on."""
    if run_id not in Manifest.read(store).held:
        return
    from ._compaction import restore

    with taken(_lock(store), wait=True):
        restore(store, run_id)


def _lock(store: Path) -> Path:
    folder = store / "runs" / ".index"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "lock"
