"""Runs the benches of this folder, all or some, and writes the tables of `docs/benchmarks.md`.

What a bench gave is kept in `results/` with its day, machine and versions, and the page shows the last of each: so some
can be run at their full size and others with `--quick`. A bench that fails is named there with the end of what it said,
and makes this command end with 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
RESULTS = FOLDER / "results"
ELSEWHERE = ("all", "peers_calls", "gpu")
"""No benches of that page: this file, and those that need other engines or a GPU and have a page of their own."""
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow", "duckdb", "pydantic", "aiohttp")


class Ran(NamedTuple):
    """One run of a bench: what it measured, how long it took (wall seconds), and the end of its stderr if it failed."""

    name: str
    about: str
    entries: list[dict[str, Any]]
    seconds: float
    failure: str | None
    quick: bool
    day: str
    machine: str
    versions: str


def ran(path: Path, quick: bool) -> Ran:
    command = [sys.executable, str(path), "--json", *(["--quick"] if quick else [])]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parent)
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failure = (
        None if done.returncode == 0 and entries else "\n".join(done.stderr.splitlines()[-5:]) or "it said nothing"
    )
    about = path.read_text().split('"""')[1].strip().split("\n\n")[0].replace("\n", " ")
    seconds = round(time.monotonic() - started)
    day = datetime.date.today().isoformat()
    return Ran(path.stem, about, entries, seconds, failure, quick, day, machine(), versions())


def keep(result: Ran) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{result.name}.json").write_text(json.dumps(result._asdict(), indent=1, ensure_ascii=False) + "\n")


def kept(names: list[str]) -> list[Ran]:
    """The last run of each of these benches, as far as there is one."""
    paths = [RESULTS / f"{name}.json" for name in names]
    return [Ran(**json.loads(path.read_text())) for path in paths if path.exists()]


def page(results: list[Ran], names: Sequence[str] = ()) -> str:
    """The whole document; benches among `names` without a result are named as such."""
    parts = [
        "# Benchmarks",
        "`make bench` writes this page; `python bench/all.py NAME` measures one of them anew. Times are CPU seconds "
        "unless the unit says otherwise. *Ratio* is the value over the reference, which was measured in the same run "
        "where it is no limit; a value meets its reference with a ratio of at least 1 where more is better (↑), and of "
        "at most 1 where less is better (↓). Runs with `--quick` are shorter than what their limits are meant for.",
    ]
    places = Counter((result.machine, result.versions) for result in results)
    usual = places.most_common(1)[0][0]
    parts.append(f"Where a bench does not say otherwise: {'. '.join(usual)}.")
    for result in results:
        command = f"`python bench/{result.name}.py --json{' --quick' if result.quick else ''}`"
        parts.append(f"## {result.name}\n\n{result.about}\n\n{command}, {result.seconds:.0f} s, {result.day}.")
        if (result.machine, result.versions) != usual:
            parts[-1] += f" {result.machine}. {result.versions}."
        if result.failure is not None:
            parts.append(f"This bench failed:\n\n```text\n{result.failure}\n```")
        if result.entries:
            parts.append(table(result.entries))
    missing = [name for name in names if name not in {result.name for result in results}]
    if missing:
        parts.append(f"Without a result here: {', '.join(f'`{name}`' for name in missing)}.")
    return "\n\n".join(parts) + "\n"


def table(entries: list[dict[str, Any]]) -> str:
    lines = ["| what | value | unit | held against | its value | ratio | |", "|---|--:|---|---|--:|--:|---|"]
    for entry in entries:
        arrow = "↑" if entry["better"] == "higher" else "↓"
        cells = [entry["name"], number(entry["value"]), entry["unit"], entry["reference"]]
        cells += [number(entry["reference_value"]), number(entry["ratio"]), arrow]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three significant digits, whole numbers with separators."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> str:
    """Processor, cores and memory."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def versions() -> str:
    known = []
    for library in LIBRARIES:
        try:
            known.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, stillhouse {metadata.version('stillhouse')}, {', '.join(known)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="the benches to run (all)")
    parser.add_argument("--quick", action="store_true", help="each within 50 seconds")
    options = parser.parse_args()
    paths = sorted(path for path in FOLDER.glob("[!_]*.py") if path.stem not in ELSEWHERE)
    unknown = sorted(set(options.names) - {path.stem for path in paths})
    if unknown:
        parser.error(f"there is no bench `{unknown[0]}`: {', '.join(path.stem for path in paths)}")
    failed = False
    for path in paths:
        if options.names and path.stem not in options.names:
            continue
        print(f"{path.stem} …", file=sys.stderr, flush=True)
        result = ran(path, options.quick)
        keep(result)
        for entry in result.entries:
            arrow = "↑" if entry["better"] == "higher" else "↓"
            shown = f"{number(entry['value'])} {entry['unit']}, {number(entry['ratio'])} × {entry['reference']} {arrow}"
            print(f"  {entry['name']}: {shown}", flush=True)
        if result.failure is not None:
            failed = True
            print(f"  failed: {result.failure}", file=sys.stderr, flush=True)
    names = [path.stem for path in paths]
    PAGE.write_text(page(kept(names), names))
    print(f"written: {PAGE}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
