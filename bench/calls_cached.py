"""Replies found again: a second run of the same prompts, in a new process, asks nothing; what it costs a row.

The replies are a provider's responses as they came over the wire, so each is unpacked, checked, parsed and judged anew.
Held against a bare loop that digests the same requests, reads the same replies from SQLite with one query for many, and
parses their JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

from _calls_server import Server, pin, serving
from calls_speed import text

ROWS, LIMIT_US, ROUNDS, MANY = 4096, 20.0, 5, 500


async def ask(url: str, folder: Path, rows: int) -> tuple[float, float, list[Any]]:
    """(wall seconds, CPU seconds, answers) of asking all prompts in a service of its own."""
    from stillhouse.calls.ask import Ask
    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.request import Prompt
    from stillhouse.calls.service import CallService
    from stillhouse.core.events import Bus
    from stillhouse.core.garbage import rare_collections

    by = Ask(model="openai/teacher", deployment="teacher")
    prompts = [Prompt(text("row", number)) for number in range(rows)]
    service = CallService(folder, bus=Bus(), credentials=Credentials(), endpoints={"teacher": url}, concurrency=256)
    await service.ask_many(by, prompts[:8])  # what is made once is no row's cost
    started, cpu = time.perf_counter(), time.process_time()
    with rare_collections():  # as in every map step
        answers = await service.ask_many(by, prompts)
    took = time.perf_counter() - started, time.process_time() - cpu
    await service.aclose()
    return *took, list(answers)


def bare(folder: Path, rows: int) -> float:
    """CPU seconds of the same by hand, from a table of its own."""
    import orjson

    path = folder / "bare.sqlite"
    body = json.dumps(
        {"choices": [{"message": {"content": "word " * 100}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
    )
    with sqlite3.connect(path) as writer:
        writer.execute("CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, body TEXT)")
        keys = [_key(number) for number in range(rows)]
        writer.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", [(key, body) for key in keys])
    writer.close()
    reader = sqlite3.connect(path)
    started = time.process_time()
    wanted = [_key(number) for number in range(rows)]
    found: dict[bytes, str] = {}
    for start in range(0, rows, MANY):
        some = wanted[start : start + MANY]
        marks = ",".join("?" * len(some))
        for key, value in reader.execute(f"SELECT key, body FROM replies WHERE key IN ({marks})", some):
            found[key] = orjson.loads(value)["choices"][0]["message"]["content"]
    seconds = time.process_time() - started
    if len([found[key] for key in wanted]) != rows:
        raise SystemExit("replies are missing")
    return seconds


def _key(number: int) -> bytes:
    import orjson

    body = {"model": "teacher", "messages": [{"role": "user", "content": text("row", number)}]}
    return blake2b(orjson.dumps(body), digest_size=16).digest()


def child(url: str, folder: Path, rows: int) -> None:
    """One run in this process."""
    pin(0)
    wall, cpu, answers = asyncio.run(ask(url, folder, rows))
    if any(not answer.text for answer in answers):
        raise SystemExit("replies are missing")
    print(json.dumps({"wall": wall, "cpu": cpu, "bare": bare(folder, rows)}))


def run(server: Server, folder: Path, rows: int) -> dict[str, float]:
    words = [sys.executable, __file__, "--child", server.url("fixed", 1), str(folder), str(rows)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(rounds: int) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="calls-cached-"))
    try:
        with serving() as server:
            run(server, folder, ROWS)
            before = server.stats()["requests"]
            runs = [run(server, folder, ROWS) for _ in range(rounds)]
            asked = server.stats()["requests"] - before
    finally:
        shutil.rmtree(folder)
    if before != ROWS:
        raise SystemExit(f"the first run made {before} requests, expected {ROWS}")
    each, base = (statistics.median(1e6 * one[what] / ROWS for one in runs) for what in ("cpu", "bare"))
    name = f"{ROWS:,} rows, every reply kept"
    common = {"better": "lower"}
    return [
        {
            "name": name,
            "value": round(each, 2),
            "unit": "CPU-µs/row",
            "reference": "limit",
            "reference_value": LIMIT_US,
            "ratio": round(each / LIMIT_US, 3),
            **common,
        },
        {
            "name": name,
            "value": round(each, 2),
            "unit": "CPU-µs/row",
            "reference": "bare loop over SQLite",
            "reference_value": round(base, 2),
            "ratio": round(each / base, 3),
            **common,
        },
        {
            "name": f"{name}: requests",
            "value": asked,
            "unit": "",
            "reference": "none",
            "reference_value": 0,
            "ratio": asked,
            **common,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="one round in place of the median of five")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, folder, rows = options.child
        child(url, Path(folder), int(rows))
        return
    for entry in measure(1 if options.quick else ROUNDS):
        shown = f"{entry['name']}: {entry['value']} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        print(json.dumps(entry) if options.json else shown)


if __name__ == "__main__":
    main()
