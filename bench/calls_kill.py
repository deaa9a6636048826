"""Kill -9 half-way: how many requests the same command makes again, and that none of them had its reply written.

A map step asks a server through 64 slots with 100 ms of latency; when half of the rows are in flight or answered, the
process gets signal 9. The next process runs the same step to its end. A request is repeated when its reply was not yet
written: those on the wire, and no other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _calls_server import Server, pin, serving

ROWS, QUICK_ROWS, WIDTH, KILLS = 4096, 1536, 64, 5


def victim(url: str, rows: int, folder: Path) -> None:
    """The step."""
    pin(0)
    from stillhouse.calls.ask import Ask
    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.endpoint import Endpoint
    from stillhouse.core.session import Session
    from stillhouse.generate.prompt import Prompt
    from stillhouse.rows.import_ import Import

    source = folder / "rows.jsonl"
    if not source.exists():
        source.write_text("".join(json.dumps({"text": f"question {number}"}) + "\n" for number in range(rows)))
    by = Ask(model="openai/teacher", deployment="teacher")
    step = Prompt(rows=Import(path=source, require=()), by=by, template="{{ text }}")
    endpoints = {"teacher": Endpoint(url, concurrency=WIDTH)}
    with Session(
        folder / "session", endpoints=endpoints, credentials=Credentials(), track=False, progress=False
    ) as session:
        made = session.run(step)
        if len(made) != rows:
            raise SystemExit(f"{len(made)} rows came out of {rows}")


def kept(folder: Path) -> int:
    """Replies that are written."""
    import sqlite3

    path = folder / "session" / "calls-v1" / "calls.sqlite"
    with sqlite3.connect(path) as reader:
        (number,) = reader.execute("SELECT count(*) FROM replies").fetchone()
    reader.close()
    return int(number)


def once(server: Server, rows: int) -> dict[str, float]:
    """One kill: requests before it, those repeated, and of these the ones whose reply was written."""
    folder = Path(tempfile.mkdtemp(prefix="calls-kill-"))
    words = [sys.executable, __file__, "--victim", server.url("fixed", 100), str(rows), str(folder)]
    try:
        server.reset()
        process = subprocess.Popen(words)
        while server.stats()["requests"] < rows // 2:
            if process.poll() is not None:
                raise SystemExit("the run ended before it was killed")
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # what was on the wire is answered to nobody
        before, written = server.stats()["requests"], kept(folder)
        subprocess.run(words, check=True)
        total = server.stats()["requests"]
    finally:
        shutil.rmtree(folder)
    return {"sent": before, "repeated": total - rows, "written_again": total - before - (rows - written)}


def measure(rows: int, kills: int) -> list[dict[str, Any]]:
    with serving() as server:
        runs = [once(server, rows) for _ in range(kills)]
    worst = max(run["repeated"] for run in runs)
    again = max(run["written_again"] for run in runs)
    sent = statistics.median(run["sent"] for run in runs)
    return [
        {
            "name": f"kill -9 after {sent:,.0f} requests, {WIDTH} in flight: requests made again, worst of {kills}",
            "value": worst,
            "unit": "requests",
            "reference": "in flight",
            "reference_value": WIDTH,
            "ratio": round(worst / WIDTH, 3),
            "better": "lower",
        },
        {
            "name": "requests made again although their reply was written",
            "value": again,
            "unit": "requests",
            "reference": "none",
            "reference_value": 0,
            "ratio": again,
            "better": "lower",
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="one kill and fewer rows")
    parser.add_argument("--victim", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.victim:
        url, rows, folder = options.victim
        victim(url, int(rows), Path(folder))
        return
    for entry in measure(QUICK_ROWS if options.quick else ROWS, 1 if options.quick else KILLS):
        shown = f"{entry['name']}: {entry['value']} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        print(json.dumps(entry) if options.json else shown)


if __name__ == "__main__":
    main()
