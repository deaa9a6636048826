"""Documents packed per CPU second, beside the textbook best fit on the same lengths; share of positions used.

Lengths are lognormal (median 300, mean 450, 8 … 16,384 tokens); documents longer than a row are split. The textbook
algorithm keeps open rows in a sorted list and places one document at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from stillhouse.tokens._best_fit import best_fit_decreasing
from stillhouse.tokens._packing import make_plan
from stillhouse.tokens.packing import Method, Packing

Lengths = npt.NDArray[np.int32]
AIMS = {"best_fit": 0.9998, "windows": 0.999}
SECONDS = 0.6


def lognormal(count: int) -> Lengths:
    random = np.random.default_rng(0)
    return np.clip(random.lognormal(np.log(300), 0.9, count), 8, 16_384).astype(np.int32)


def pieces(lengths: Lengths, capacity: int) -> Lengths:
    """Lengths of whole rows and rests, as `split` cuts them."""
    counts = -(-lengths.astype(np.int64) // capacity)
    last = np.cumsum(counts) - 1
    found = np.full(int(counts.sum()), capacity, np.int32)
    found[last] = lengths - (counts - 1) * capacity
    return found


def textbook(lengths: Lengths, capacity: int) -> int:
    """The number of rows; the row of each document is kept too, as a plan needs it."""
    spaces: list[tuple[int, int]] = []
    row_of = [0] * len(lengths)
    rows = 0
    for document in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[document])
        place = bisect_left(spaces, (length, -1))
        if place < len(spaces):
            space, row = spaces.pop(place)
        else:
            space, row, rows = capacity, rows, rows + 1
        row_of[document] = row
        if space > length:
            insort(spaces, (space - length, row))
    return rows


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """The best of some runs."""
    found = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def lines(count: int, reference_count: int) -> list[dict[str, object]]:
    lengths = lognormal(count)
    report = []
    for capacity in (2048, 4096):
        few = pieces(lengths[:reference_count], capacity)
        rows = textbook(few, capacity)
        if best_fit_decreasing(few, capacity)[1] != rows:
            raise SystemExit("the textbook algorithm needs another number of rows")
        theirs = len(few) / cpu_seconds(partial(textbook, few, capacity), 1)
        methods: list[Method] = ["best_fit", "windows"]
        for method in methods:
            packing = Packing(method, too_long="split")
            plan = make_plan(packing, lengths, capacity)
            seconds = cpu_seconds(partial(make_plan, packing, lengths, capacity), 3)
            name = f"packing {count:,} documents into rows of {capacity}, {method}"
            reference = f"textbook best fit on {reference_count:,}"
            report.append(line(name, count / seconds, "documents/CPU-s", reference, theirs, "higher"))
            if method == "best_fit" and count == 1_000_000:
                report.append(line(f"{name}: time", seconds, "CPU-s", "limit", SECONDS, "lower"))
            full = plan.report.utilisation
            report.append(line(f"{name}: positions used", full, "share", "aim", AIMS[method], "higher"))
    return report


def line(name: str, value: float, unit: str, reference: str, reference_value: float, better: str) -> dict[str, object]:
    return {
        "name": name,
        "value": float(f"{value:.5g}"),
        "unit": unit,
        "reference": reference,
        "reference_value": float(f"{reference_value:.5g}"),
        "ratio": float(f"{value / reference_value:.5g}"),
        "better": better,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="200,000 documents in place of 1,000,000")
    options = parser.parse_args()
    for entry in lines(200_000, 50_000) if options.quick else lines(1_000_000, 200_000):
        print(
            json.dumps(entry)
            if options.json
            else f"{entry['name']}: {entry['value']:,} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        )


if __name__ == "__main__":
    main()
