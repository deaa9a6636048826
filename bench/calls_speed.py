"""Rows a second and CPU time a row through the call engine, beside a bare aiohttp loop against the same server.

Each run is a process of its own on one core, the server has the other. All three open their connections and warm up in
the very session that is then measured, so that the CPU time is that of the rows alone (with all threads) and the rows a
second are those of a run that is under way. What a session has before that is told apart: its first call goes alone, as
it may find that nobody lets us in, and the others wait for it. The floor does what cannot be left out: it digests the
request, posts it with a bounded number of workers, reads the reply, and appends it to a log. `ask_many` is the engine:
keys, cache, slots, pacing, ledger. `step` is a whole map step of a session, from rows to a finished artifact with
lineage.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _calls_server import pin, serving, skewed

WARM, ROUNDS = 512, 5
LATENCY = 0.1
"""Seconds of a call, on average."""
SIZES = {64: (4096, 1024), 512: (16384, 6144)}
"""Rows by calls in flight: in full and with `--quick`."""
MOST_MS, MOST_RATIO, LEAST_SPEED = 0.6, 1.7, 0.9


def text(run: str, number: int) -> str:
    return f"{run} #{number}# " + "tell me what the following order says, in the words of the house. " * 6


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


Measured = tuple[list[str], dict[str, float]]
"""The replies of the measured rows, and the seconds they took."""


async def floor(url: str, rows: int, width: int, folder: Path) -> Measured:
    """The replies, by hand."""
    from hashlib import blake2b

    import aiohttp
    import orjson

    with open(f"{folder}.log", "ab", buffering=0) as log:  # noqa: ASYNC230
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=width)) as session:

            async def all_rows(run: str, rows: int) -> list[str]:
                replies, waiting = [""] * rows, iter(range(rows))
                held: list[bytes] = []

                async def work() -> None:
                    for number in waiting:
                        body = {"model": "teacher", "messages": [{"role": "user", "content": text(run, number)}]}
                        key = blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
                        data = orjson.dumps(body)
                        headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
                        async with session.post(f"{url}/chat/completions", data=data, headers=headers) as response:
                            reply = orjson.loads(await response.read())
                        replies[number] = reply["choices"][0]["message"]["content"]
                        held.append(orjson.dumps({"key": key, "request": body, "reply": reply}) + b"\n")
                        if len(held) >= 64:
                            log.write(b"".join(held))
                            held.clear()

                await asyncio.gather(*(work() for _ in range(width)))
                log.write(b"".join(held))
                return replies

            await all_rows("warm", warm_rows(width))
            clock = Clock()
            return await all_rows("run", rows), clock.read()


async def engine(url: str, rows: int, width: int, folder: Path) -> Measured:
    """The replies, by the call service."""
    from stillhouse.calls.ask import Ask
    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.endpoint import Endpoint
    from stillhouse.calls.request import Prompt
    from stillhouse.calls.service import CallService
    from stillhouse.core.events import Bus
    from stillhouse.core.garbage import rare_collections

    by = Ask(model="openai/teacher", deployment="teacher")
    endpoint = Endpoint(url, api_key="KEY", concurrency=width)
    service = CallService(
        folder / "calls", bus=Bus(), credentials=Credentials({"KEY": "x"}), endpoints={"teacher": endpoint}
    )
    try:
        clock = Clock()
        await service.ask(by, "the first of all")
        first = clock.read()["wall"]
        with rare_collections():
            await service.ask_many(by, [Prompt(text("warm", number)) for number in range(warm_rows(width))])
            clock = Clock()
            answers = await service.ask_many(by, [Prompt(text("run", number)) for number in range(rows)])
            took = clock.read()
    finally:
        await service.aclose()
    return [answer.text for answer in answers], {**took, "first": first}  # type: ignore[union-attr]


def step(url: str, rows: int, width: int, folder: Path) -> Measured:
    """The replies, by a map step."""
    from stillhouse.calls.ask import Ask
    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.endpoint import Endpoint
    from stillhouse.core.session import Session
    from stillhouse.generate.prompt import Prompt
    from stillhouse.rows.import_ import Import

    folder.mkdir(parents=True, exist_ok=True)

    def made(run: str, rows: int) -> Prompt:
        source = folder / f"{run}.jsonl"
        with source.open("w") as file:
            for number in range(rows):
                file.write(json.dumps({"number": number, "text": text(run, number)}) + "\n")
        rows_in = Import(path=source, require=())
        session.run(rows_in)
        return Prompt(rows=rows_in, by=Ask(model="openai/teacher", deployment="teacher"), template="{{ text }}")

    endpoints = {"teacher": Endpoint(url, api_key="KEY", concurrency=width)}
    with Session(
        folder / "session", endpoints=endpoints, credentials=Credentials({"KEY": "x"}), track=False, progress=False
    ) as session:
        session.run(made("warm", warm_rows(width)))
        recipe = made("run", rows)
        clock = Clock()
        found = session.run(recipe)
        took = clock.read()
        return [row["reply"] for row in found], took


def warm_rows(width: int) -> int:
    return max(WARM, 2 * width)


def child(case: str, url: str, rows: int, width: int, folder: Path) -> None:
    """One run in this process; prints wall and CPU seconds and the peak memory as JSON."""
    pin(0)
    if case == "step":
        replies, took = step(url, rows, width, folder)
    else:
        replies, took = asyncio.run((floor if case == "floor" else engine)(url, rows, width, folder))
    if len(replies) != rows or not all(reply.startswith("word") for reply in replies):
        raise SystemExit("replies are missing")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**took, "peak_mb": peak / (1024 if sys.platform == "darwin" else 1)}))


def measured(case: str, url: str, rows: int, width: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="calls-speed-"))
    try:
        words = [sys.executable, __file__, "--child", case, url, str(rows), str(width), str(folder)]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder)
    return found


def compare(width: int, rows: int, rounds: int, url: str) -> list[dict[str, Any]]:
    """Entries for one number of calls in flight: medians of interleaved runs."""
    cases = ("floor", "ask_many", "step")
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            runs[case].append(measured(case, url, rows, width))

    def median(case: str, what: str) -> float:
        return statistics.median(run[what] for run in runs[case])

    entries = []
    for case in cases[1:]:
        name = f"{case}, {width} in flight"
        speeds = [rows / run["wall"] for run in runs[case]]
        ratios = [own["wall"] / one["wall"] for own, one in zip(runs["floor"], runs[case], strict=True)]
        cpus = [one["cpu"] / own["cpu"] for own, one in zip(runs["floor"], runs[case], strict=True)]
        each = 1000 * median(case, "cpu") / rows
        base = 1000 * median("floor", "cpu") / rows
        entries += [
            _entry(
                name,
                statistics.median(speeds),
                "rows/s",
                f"bare aiohttp (limit {LEAST_SPEED} times)" if width == 64 else "bare aiohttp, which is busy too",
                rows / median("floor", "wall"),
                statistics.median(ratios),
                "higher",
            ),
            _entry(name, each, "CPU-ms/row", f"bare aiohttp (limit {MOST_RATIO} times)", base, statistics.median(cpus)),
            _entry(name, each, "CPU-ms/row", "limit", MOST_MS, each / MOST_MS),
        ]
    if width == 64:
        first = median("ask_many", "first")
        entries.append(
            _entry("ask_many, the first call, which goes alone", first, "s", "latency", LATENCY, first / LATENCY)
        )
    return entries


def compare_skewed(width: int, rows: int, rounds: int, url: str) -> list[dict[str, Any]]:
    """The same with latencies that differ much, where whoever waits for the slowest of a batch is found out."""
    free = [0.0] * width
    for number in range(rows):
        heapq.heappush(free, heapq.heappop(free) + skewed(LATENCY, text("run", number)))
    ideal = max(free)
    runs = [[measured(case, url, rows, width)["wall"] for case in ("floor", "ask_many")] for _ in range(rounds)]
    name = f"ask_many, {width} in flight, log-normal latency"
    ours = statistics.median(own for _, own in runs)
    base = statistics.median(floor for floor, _ in runs)
    ratio = statistics.median(own / floor for floor, own in runs)
    return [
        _entry(name, ours, "s", "bare aiohttp (limit 1.05 times)", base, ratio),
        _entry(name, ours, "s", "ideal schedule", ideal, ours / ideal),
    ]


def _entry(
    name: str, value: float, unit: str, reference: str, reference_value: float, ratio: float, better: str = "lower"
) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "reference": reference,
        "reference_value": round(reference_value, 4),
        "ratio": round(ratio, 4),
        "better": better,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="one round of few rows in place of the median of five")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        case, url, rows, width, folder = options.child
        child(case, url, int(rows), int(width), Path(folder))
        return
    with serving() as server:
        for width, (full, quick) in SIZES.items():
            rows, rounds = (quick, 1) if options.quick else (full, ROUNDS)
            show(compare(width, rows, rounds, server.url("fixed", 100)), options.json)
        rows, rounds = (1024, 1) if options.quick else (4096, ROUNDS)
        show(compare_skewed(64, rows, rounds, server.url("skewed", 100)), options.json)


def show(entries: list[dict[str, Any]], as_json: bool) -> None:
    for entry in entries:
        shown = f"{entry['name']}: {entry['value']} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        print(json.dumps(entry) if as_json else shown, flush=True)


if __name__ == "__main__":
    main()
