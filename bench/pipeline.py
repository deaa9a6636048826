"""Generate, judge, filter: three dependent steps against the ideal schedule, in which no row waits for another.

Each row is answered and judged by calls of log-normal latency (σ 0.8, mean 0.1 s), 64 in flight; then a function keeps
or drops it. The ideal is list scheduling of the very same latencies: a row's judging may start when its answer is there
and a slot is free. `one model` answers and judges, `two models` have 64 slots each. Beside each stands the same run
with every step waiting for the whole of the one before (`Options(ahead=False)`), and in the same minute a bare asyncio
task for each row, which keeps nothing: on a busy machine it is late too. Before, all that is loaded once was loaded.
`schedule alone` is the same run by a clock that stands still while anybody computes (`_still_time.py`): what rows wait
for each other, on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _still_time import is_known, still_time

from stillhouse.calls.ask import Ask
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Filter

SLOTS, MEAN, LIMIT = 64, 0.1, 1.05


def latency(text: str) -> float:
    """Seconds that the model takes for this question, the same each time."""
    return random.Random(text).lognormvariate(0, 0.8) * MEAN / 1.377  # 1.377 = exp(0.8² / 2): the mean is MEAN


async def teacher(messages: list[dict[str, Any]], schema: object, sample: int) -> str:
    """A model that answers after its latency; a judge says yes to nine of ten."""
    text = str(messages[-1]["content"])
    await asyncio.sleep(latency(text))
    if text.startswith("judge"):
        return "no" if text.endswith("0") else "yes"
    return "an answer"


async def judge(messages: list[dict[str, Any]], schema: object, sample: int) -> str:
    """The same under another name, with slots of its own."""
    return await teacher(messages, schema, sample)


def well_judged(row: dict[str, Any]) -> bool | str:
    return row["verdict"] == "yes" or "the judge said no"


def recipe(num_rows: int, two_models: bool) -> Filter:
    by = Ask(model="python:pipeline:teacher")
    other = Ask(model="python:pipeline:judge") if two_models else by
    rows = Import(data=[{"n": str(number)} for number in range(num_rows)], require=("n",))
    answered = Prompt(rows=rows, template="answer {{ n }}", column="answer", by=by)
    judged = Prompt(rows=answered, template="judge {{ answer }} {{ n }}", column="verdict", by=other)
    return Filter(rows=judged, where=well_judged)


def ideal_seconds(num_rows: int, two_models: bool) -> float:
    """When the last call ends, if each starts as soon as it may and there is a slot: the better of two orders."""
    return min(_scheduled(num_rows, two_models, judge_first) for judge_first in (False, True))


def _scheduled(num_rows: int, two_models: bool, judge_first: bool) -> float:
    answers = [latency(f"answer {number}") for number in range(num_rows)]
    verdicts = [latency(f"judge an answer {number}") for number in range(num_rows)]
    free = {"answer": SLOTS, "judge": SLOTS}
    waiting: dict[str, list[int]] = {"answer": list(range(num_rows))[::-1], "judge": []}
    events: list[tuple[float, str, int]] = []
    now = 0.0
    order = ("judge", "answer") if judge_first else ("answer", "judge")
    while True:
        for kind in order:
            slots = kind if two_models else "answer"
            while waiting[kind] and free[slots]:
                number = waiting[kind].pop()
                free[slots] -= 1
                took = answers[number] if kind == "answer" else verdicts[number]
                heapq.heappush(events, (now + took, kind, number))
        if not events:
            return now
        now, kind, number = heapq.heappop(events)
        free[kind if two_models else "answer"] += 1
        if kind == "answer":
            waiting["judge"].append(number)


def seconds(num_rows: int, two_models: bool, ahead: bool) -> float:
    """Wall seconds of the whole run in a fresh folder; by the clock of the session's loop, which may stand still."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-"))
    try:
        options = Options(ahead=ahead)
        with Session(folder, options=options, concurrency=SLOTS, track=False, progress=False) as session:
            started = session.loop.time()
            made = session.run(recipe(num_rows, two_models))
            took = session.loop.time() - started
        if made.record["counts"]["in"] != num_rows:
            raise SystemExit(f"{made.record['counts']}")
        return took
    finally:
        shutil.rmtree(folder)


def bare_seconds(num_rows: int, two_models: bool) -> float:
    """Wall seconds of the same calls by a task for each row, with nothing kept and nothing counted."""

    async def all_rows() -> None:
        answering = asyncio.Semaphore(SLOTS)
        judging = asyncio.Semaphore(SLOTS) if two_models else answering

        async def row(number: int) -> None:
            async with answering:
                answer = await teacher([{"content": f"answer {number}"}], None, 0)
            async with judging:
                await teacher([{"content": f"judge {answer} {number}"}], None, 0)

        await asyncio.gather(*(row(number) for number in range(num_rows)))

    started = time.perf_counter()
    asyncio.run(all_rows())
    return time.perf_counter() - started


def measure(num_rows: int, two_models: bool, rounds: int) -> list[dict[str, object]]:
    """Ours and each of the others, interleaved; medians."""
    ideal = ideal_seconds(num_rows, two_models)
    seconds(SLOTS, two_models, ahead=True)  # what is loaded once
    ours, waiting, bare = [], [], []
    for _ in range(rounds):
        bare.append(bare_seconds(num_rows, two_models))
        ours.append(seconds(num_rows, two_models, ahead=True))
        waiting.append(seconds(num_rows, two_models, ahead=False))
    models = "two models" if two_models else "one model"
    name, late = f"{num_rows:,} rows, {models}", f"{num_rows:,} rows, {models}, each step waits for the one before"
    took, barred, floor = (statistics.median(values) for values in (ours, waiting, bare))
    alone = []
    if is_known():
        with still_time():
            still = seconds(num_rows, two_models, ahead=True)
        alone = [_entry(f"{name}, schedule alone", still, f"ideal schedule (limit {LIMIT} times)", ideal, "s")]
    return [
        *alone,
        _entry(name, took, f"ideal schedule (limit {LIMIT} times)", ideal),
        _entry(name, took, "a bare task for each row", floor),
        _entry(late, barred, f"ideal schedule (limit {LIMIT} times)", ideal),
    ]


def _entry(name: str, took: float, reference: str, other: float, unit: str = "s of wall time") -> dict[str, object]:
    return {
        "name": name,
        "value": round(took, 3),
        "unit": unit,
        "reference": reference,
        "reference_value": round(other, 3),
        "ratio": round(took / other, 4),
        "better": "lower",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round in place of the median of three")
    options = parser.parse_args()
    num_rows, rounds = (2_000, 1) if options.quick else (8_000, 3)
    for two_models in (False, True):
        for entry in measure(num_rows, two_models, rounds):
            told = f"{entry['name']}: {entry['value']} s ({entry['ratio']} × {entry['reference']})"
            print(json.dumps(entry) if options.json else told, flush=True)


if __name__ == "__main__":
    main()
