"""CPU milliseconds of a check in a process of its own: a function's verdict, and a program with its tests, contained.

Beside them stands what one would write first: a fresh Python for each program, without limits or walls. All processes
count, workers until they are closed. The number check runs in this process and stands beside a bare `float`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stillhouse.measure import _sandbox
from stillhouse.measure.code_verifier import CodeVerifier
from stillhouse.measure.function_verifier import FunctionVerifier
from stillhouse.measure.limits import Limits
from stillhouse.measure.number_verifier import NumberVerifier

REPLY = "Here:\n```python\ndef add(a, b):\n    return a + b\n```\n"
TESTS = "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'\n"
LIMITS = Limits(seconds=120, cpu_seconds=60)
ANSWER = "She sold 48 + 24 = 72 clips in April and May, 1,000 fewer than planned.\n#### 72"


def is_brief(row: dict[str, object], reply: str) -> bool:
    return len(reply) < 100


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process and of all that it started and that ended meanwhile."""
    began = used()
    work()
    return used() - began


def used() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def closed(work: Callable[[], object]) -> Callable[[], None]:
    """The same work, its workers started for it and ended after it."""

    def run() -> None:
        work()
        _sandbox.close_workers()

    return run


def fresh(count: int) -> None:
    for _ in range(count):
        subprocess.run([sys.executable, "-I", "-c", f"{REPLY.split('```')[1][7:]}\n{TESTS}"], check=True)


def lines(count: int) -> list[dict[str, object]]:
    code = CodeVerifier(tests="tests", limits=LIMITS)
    programs = [({"tests": TESTS}, REPLY)] * count
    function = FunctionVerifier(function="bench.verify:is_brief", limits=LIMITS)
    replies = [({}, "short")] * (20 * count)
    if not all(verdict.accepted for verdict in [*code.many(programs[:5]), *function.many(replies[:5])]):
        raise SystemExit("a right reply was rejected")
    _sandbox.close_workers()
    theirs = cpu_seconds(lambda: fresh(count // 4)) / (count // 4) * 1e3
    programs_ms = cpu_seconds(closed(lambda: code.many(programs))) / count * 1e3
    calls_ms = cpu_seconds(closed(lambda: function.many(replies))) / len(replies) * 1e3
    number = NumberVerifier()
    checks = 200 * count
    number_ms = cpu_seconds(lambda: [number({"output": "72"}, ANSWER) for _ in range(checks)]) / checks * 1e3
    started = time.perf_counter()
    code.many(programs)
    wall_ms = (time.perf_counter() - started) / count * 1e3
    peer = "a fresh Python each, uncontained"
    return [
        line(f"program with tests, contained ({count})", programs_ms, "CPU ms", peer, theirs),
        line(f"function with limits ({len(replies)})", calls_ms, "CPU ms", peer, theirs),
        line("number in a reply of two lines", number_ms, "CPU ms", "limit", 0.1),
        line("program with tests, contained, by the clock", wall_ms, "ms", peer, theirs),
    ]


def line(name: str, value: float, unit: str, reference: str, reference_value: float) -> dict[str, object]:
    return {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "reference": reference,
        "reference_value": float(f"{reference_value:.4g}"),
        "ratio": float(f"{value / reference_value:.4g}"),
        "better": "lower",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="200 programs in place of 2,000")
    options = parser.parse_args()
    for entry in lines(200 if options.quick else 2000):
        print(
            json.dumps(entry)
            if options.json
            else f"{entry['name']}: {entry['value']:,} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        )


if __name__ == "__main__":
    main()
