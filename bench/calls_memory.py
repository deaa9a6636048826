"""Memory of a map step that asks a server: the peak of the whole process, and what ten times the rows add to it.

Each size is a process of its own: rows from a JSON Lines file, one call each through 256 slots, replies of 500 bytes
kept in the call cache, an artifact with lineage at the end. In full 100,000 rows and a million: that takes a while.
Without pandas, which the core install does not bring, and which pyarrow loads (45 MB) wherever it finds it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _calls_server import pin, serving

SIZES, QUICK_SIZES = (100_000, 1_000_000), (2_000, 8_000)
WIDTH, MOST_MB, MOST_GROWTH = 256, 150, 1.2
SMALL = 4096
"""Rows of the run that is held against the limit."""


class WithoutPandas:
    """Finds no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def child(url: str, rows: int, folder: Path) -> None:
    """One step in this process; prints its peak memory in MB."""
    pin(0)
    sys.meta_path.insert(0, WithoutPandas())  # type: ignore[arg-type]
    from stillhouse.calls.ask import Ask
    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.endpoint import Endpoint
    from stillhouse.core.session import Session
    from stillhouse.generate.prompt import Prompt
    from stillhouse.rows.import_ import Import

    source = folder / "rows.jsonl"
    with source.open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"text": f"question {number} of many"}) + "\n")
    step = Prompt(
        rows=Import(path=source, require=()), by=Ask(model="openai/teacher", deployment="t"), template="{{ text }}"
    )
    endpoints = {"t": Endpoint(url, concurrency=WIDTH)}
    with Session(
        folder / "out", endpoints=endpoints, credentials=Credentials(), track=False, progress=False
    ) as session:
        if len(session.run(step)) != rows:
            raise SystemExit("rows are missing")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    print(peak / (1024 if sys.platform == "darwin" else 1))


def measured(url: str, rows: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="calls-memory-"))
    try:
        words = [sys.executable, __file__, "--child", url, str(rows), str(folder)]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
        return float(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder)


def measure(sizes: tuple[int, int]) -> list[dict[str, Any]]:
    with serving() as server:
        url = server.url("fixed", 1)
        small, few, many = (measured(url, rows) for rows in (SMALL, *sizes))
    return [
        {
            "name": f"step that asks, {SMALL:,} rows, peak memory",
            "value": round(small, 1),
            "unit": "MB",
            "reference": "limit",
            "reference_value": MOST_MB,
            "ratio": round(small / MOST_MB, 3),
            "better": "lower",
        },
        {
            "name": f"step that asks, {sizes[1]:,} rows, peak memory",
            "value": round(many, 1),
            "unit": "MB",
            "reference": f"peak at {sizes[0]:,} rows (limit {MOST_GROWTH} times)",
            "reference_value": round(few, 1),
            "ratio": round(many / few, 3),
            "better": "lower",
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="thousands of rows")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, rows, folder = options.child
        child(url, int(rows), Path(folder))
        return
    for entry in measure(QUICK_SIZES if options.quick else SIZES):
        shown = f"{entry['name']}: {entry['value']} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        print(json.dumps(entry) if options.json else shown)


if __name__ == "__main__":
    main()
