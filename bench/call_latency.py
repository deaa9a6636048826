"""Calls of random latency against the ideal schedule: nothing may wait for the slowest call of a batch.

300 calls of random latency (mean 0.1 s) through 10 slots, as one list and as concurrent chunks (so a map step asks).
The ideal is list scheduling of the very same latencies: each call starts in the slot that is free first.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.events import Bus

SLOTS, MEAN, CHUNK, LIMIT = 10, 0.1, 32, 1.05
Latencies = Sequence[float]


def exponential(draw: random.Random) -> float:
    return draw.expovariate(1 / MEAN)


def lognormal(draw: random.Random) -> float:
    return draw.lognormvariate(0, 0.8) * MEAN / 1.377  # 1.377 = exp(0.8² / 2), so that the mean is MEAN


def ideal_seconds(latencies: Latencies) -> float:
    """When the last call ends if each starts, in order, in the slot that is free first."""
    free = [0.0] * SLOTS
    for latency in latencies:
        heapq.heappush(free, heapq.heappop(free) + latency)
    return max(free)


async def seconds(latencies: Latencies, chunk: int) -> float:
    """Wall seconds of the same calls through the call service."""
    teacher = script("latency", latency=latencies.__getitem__)
    folder = Path(tempfile.mkdtemp(prefix="call-latency-"))
    service = CallService(folder, bus=Bus(), credentials=Credentials(), concurrency=SLOTS)
    prompts = [Prompt(f"question {number}") for number in range(len(latencies))]
    by = Ask(model="scripted:latency")
    try:
        await service.ask(by, "warm up")  # the first call makes the cache and the provider
        teacher.requests.clear()
        started = time.perf_counter()
        chunks = [prompts[start : start + chunk] for start in range(0, len(prompts), chunk)]
        await asyncio.gather(*(service.ask_many(by, part) for part in chunks))
        took = time.perf_counter() - started
    finally:
        await service.aclose()
        shutil.rmtree(folder)
    if teacher.num_calls != len(latencies) or teacher.peak_in_flight != SLOTS:
        raise SystemExit(f"{teacher.num_calls} calls, {teacher.peak_in_flight} at once")
    return took


def measure(
    name: str, sample: Callable[[random.Random], float], num_calls: int, chunk: int, rounds: int
) -> dict[str, object]:
    draw = random.Random(7)
    latencies = [sample(draw) for _ in range(num_calls)]
    ideal = ideal_seconds(latencies)
    took = statistics.median(asyncio.run(seconds(latencies, chunk)) for _ in range(rounds))
    return {
        "name": f"{num_calls} calls of {name} latency, {SLOTS} slots, {'one list' if chunk >= num_calls else 'chunks'}",
        "value": round(took, 3),
        "unit": "s",
        "reference": f"ideal schedule (limit {LIMIT} times)",
        "reference_value": round(ideal, 3),
        "ratio": round(took / ideal, 4),
        "better": "lower",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="one round in place of the median of five")
    options = parser.parse_args()
    rounds = 1 if options.quick else 5
    for name, sample in (("exponential", exponential), ("log-normal", lognormal)):
        for chunk in (300, CHUNK):
            entry = measure(name, sample, 300, chunk, rounds)
            print(
                json.dumps(entry)
                if options.json
                else f"{entry['name']}: {entry['value']} s ({entry['ratio']} × {entry['reference']})"
            )


if __name__ == "__main__":
    main()
