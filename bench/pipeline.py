"""Generate, judge, filter: three dependent steps against the ideal schedule, in which no row waits for another.

Each row is answered and judged by calls of log-normal latency (σ 0.8, mean 0.1 s), 64 in flight; then a function keeps
or drops it. The ideal is list scheduling of the very same latencies: a row's judging may start when its answer is there
and a slot is free. `at once` asks both of one model, `two models` each of its own with 64 slots. Beside each stands the
same run with every step waiting for the whole of the one before (`Options(ahead=False)`).
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
    """Wall seconds of the whole run in a fresh folder."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-"))
    try:
        options = Options(ahead=ahead)
        with Session(folder, options=options, concurrency=SLOTS, track=False, progress=False) as session:
            session.run(Import(data=[{"n": "0"}], require=("n",)))  # what is loaded once
            started = time.perf_counter()
            made = session.run(recipe(num_rows, two_models))
            took = time.perf_counter() - started
        if made.record["counts"]["in"] != num_rows:
            raise SystemExit(f"{made.record['counts']}")
        return took
    finally:
        shutil.rmtree(folder)


def measure(num_rows: int, two_models: bool, ahead: bool, rounds: int) -> dict[str, object]:
    ideal = ideal_seconds(num_rows, two_models)
    took = statistics.median(seconds(num_rows, two_models, ahead) for _ in range(rounds))
    models = "two models" if two_models else "one model"
    return {
        "name": f"{num_rows:,} rows, {models}" + ("" if ahead else ", each step waits for the one before"),
        "value": round(took, 3),
        "unit": "s of wall time",
        "reference": f"ideal schedule (limit {LIMIT} times)",
        "reference_value": round(ideal, 3),
        "ratio": round(took / ideal, 4),
        "better": "lower",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round in place of the median of three")
    options = parser.parse_args()
    num_rows, rounds = (2_000, 1) if options.quick else (8_000, 3)
    for two_models in (False, True):
        for ahead in (True, False):
            entry = measure(num_rows, two_models, ahead, rounds)
            told = f"{entry['name']}: {entry['value']} s ({entry['ratio']} × {entry['reference']})"
            print(json.dumps(entry) if options.json else told, flush=True)


if __name__ == "__main__":
    main()
