"""Rows per CPU second that `Import` reads from a file into a finished artifact, by format, and the memory that takes.

Rows are small (a text of some 40 bytes, a number, a label). Each case runs in a process of its own, after a few rows to
load what is loaded once. Memory is the peak of what is not backed by a file, at a tenth of the rows and at all of them:
pages of mapped files count as resident, but leave when others need the room. How fast the machine is just now is told
by a bare loop that does by hand what cannot be done without: parse a line, name the row by its content, write Parquet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from _report import line, show

FORMATS = ("jsonl", "parquet", "arrow")
MEMORY_MB = 500


def write_files(folder: Path, rows: int) -> None:
    """The same rows in each format, written in pieces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("text", pa.string()), ("number", pa.int64()), ("label", pa.string())])
    with (
        (folder / "rows.jsonl").open("w") as lines,
        pq.ParquetWriter(folder / "rows.parquet", schema) as parquet,
        pa.OSFile(str(folder / "rows.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, schema) as arrow,
    ):
        for start in range(0, rows, 10_000):
            numbers = range(start, min(start + 10_000, rows))
            made = [{"text": f"row {n} of a table of small rows", "number": n, "label": "abc"[n % 3]} for n in numbers]
            lines.writelines(json.dumps(row) + "\n" for row in made)
            table = pa.Table.from_pylist(made, schema)
            parquet.write_table(table)
            arrow.write_table(table)


def child(case: str, rows: int, folder: Path) -> None:
    """One case in this process; prints CPU seconds and the peak of anonymous memory as JSON."""
    if case == "write":
        write_files(folder, rows)
        print(json.dumps({}))
        return
    if case == "bare":
        print(json.dumps({"seconds": bare(folder), "peak_mb": 0.0}))
        return
    from stillhouse.core.session import Session
    from stillhouse.rows.import_ import Import

    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous_mb())

    with Session(folder / f"store-{case}", track=False, progress=False) as session:
        session.run(Import(data=[{"text": "a"}], require=()))  # imports are not a row's cost
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        started = time.process_time()
        made = session.run(Import(path=folder / f"rows.{case}", require=()))
        seconds = time.process_time() - started
        done.set()
        watcher.join()
        if len(made) != rows:
            raise SystemExit(f"{len(made)} rows came out of {rows}")
    print(json.dumps({"seconds": seconds, "peak_mb": peak[0]}))


def anonymous_mb() -> float:
    """Resident memory of this process that no file backs; of systems that do not tell, 0."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    found = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def bare(folder: Path) -> float:
    """CPU seconds of the same work on the lines of JSON in one loop: nothing is checked, counted, resumed or traced."""
    from hashlib import blake2b

    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    started = time.process_time()
    writer = None
    with (folder / "rows.jsonl").open("rb") as file:
        while lines := list(itertools.islice(file, 4096)):
            made = [orjson.loads(line) for line in lines]
            for row in made:
                data = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
                row["_id"] = blake2b(data, digest_size=12).hexdigest()
            table = pa.Table.from_pylist(made)
            writer = writer or pq.ParquetWriter(folder / "bare.parquet", table.schema, compression="zstd")
            writer.write_table(table)
    assert writer is not None
    writer.close()
    return time.process_time() - started


def measure(rows: int) -> dict[str, dict[str, float]]:
    """The figures of all cases for one number of rows."""
    folder = Path(tempfile.mkdtemp(prefix="import-rows-"))
    found = {}
    try:
        for case in ("write", *FORMATS, "bare"):
            command = [sys.executable, __file__, "--child", case, str(rows), str(folder)]
            found[case] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(folder)
    return found


def lines(sizes: tuple[int, int]) -> list[dict[str, object]]:
    small, large = (measure(rows) for rows in sizes)
    by_hand = sizes[1] / large["bare"]["seconds"]
    report: list[dict[str, object]] = []
    for case in FORMATS:
        speed = sizes[1] / large[case]["seconds"]
        report.append(line(f"import of {case}", speed, "rows/CPU-s", "a bare loop just now", by_hand, "higher"))
    for case in FORMATS:
        peak, before = large[case]["peak_mb"], small[case]["peak_mb"]
        name = f"peak memory, {case}, {sizes[1]:,} rows"
        report.append(line(f"{name} beside {sizes[0]:,}", peak, "MB", f"peak at {sizes[0]:,} rows", before, "lower"))
        report.append(line(name, peak, "MB", "limit", MEMORY_MB, "lower"))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="10,000 and 60,000 rows, not 100,000 and 1,000,000")
    parser.add_argument("--child", nargs=3, metavar=("CASE", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        case, rows, folder = options.child
        child(case, int(rows), Path(folder))
        return
    for entry in lines((10_000, 60_000) if options.quick else (100_000, 1_000_000)):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
