"""Packing: documents per CPU second, positions used, writing the rows, reading a kept plan.

Lengths are lognormal (median 300, mean 450, 8 … 16,384 tokens); documents longer than a row are split, so no token is
lost. References: the textbook best fit on the same lengths, which keeps open rows in a sorted list and places one
document at a time; a bare copy of the same bytes for writing; with `--peer`, TRL's `pack_dataset` in the same run,
where it can be imported, else its figures as they were measured elsewhere (labelled so).
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _report import line, show

from stillhouse.tokens._best_fit import best_fit_decreasing
from stillhouse.tokens._packing import make_plan
from stillhouse.tokens._plan_files import PlanKey, kept_plan
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore

Lengths = npt.NDArray[np.int32]
AIMS = {"best_fit": 0.9998, "windows": 0.999, "stream": 0.994, "concat": 0.9999}
SECONDS = 0.6
MILLISECONDS = 50
ELSEWHERE = {2048: (17.1, 0.9968, 0.034), 4096: (20.9, 0.9949, 0.0058)}
"""TRL 1.16.0, `bfd` with its defaults, 1,000,000 such documents on two shared cores, measured on another day: CPU
seconds, positions used, share of tokens cut off."""
_BLOCK_ROWS = 1024
_VIEW = np.dtype([("size", "<i4"), ("prefix", "<u4"), ("buffer", "<i4"), ("offset", "<i4")])
"""Arrow's view of bytes: where they stand, or, of up to twelve, what they are."""
_INSIDE, _BUFFER_BITS = 6, 30
"""Tokens that a view holds itself; the views' offsets are 32 bits wide, so that tokens are many buffers to it."""


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


def lines(count: int, reference_count: int, *, peer: bool = False) -> list[dict[str, object]]:
    lengths = lognormal(count)
    report = []
    for capacity in (2048, 4096):
        few = pieces(lengths[:reference_count], capacity)
        rows = textbook(few, capacity)
        if best_fit_decreasing(few, capacity)[1] != rows:
            raise SystemExit("the textbook algorithm needs another number of rows")
        theirs = len(few) / cpu_seconds(partial(textbook, few, capacity), 1)
        methods: list[Method] = ["best_fit", "windows", "stream", "concat"]
        for method in methods:
            packing = Packing(method, too_long="split")
            plan = make_plan(packing, lengths, capacity)
            repeat = 3 if method in ("best_fit", "concat") else 1
            seconds = cpu_seconds(partial(make_plan, packing, lengths, capacity), repeat)
            name = f"packing {count:,} documents into rows of {capacity}, {method}"
            reference = f"textbook best fit on {reference_count:,}"
            report.append(line(name, count / seconds, "documents/CPU-s", reference, theirs, "higher"))
            placed = plan.report.num_tokens / int(lengths.sum(dtype=np.int64))
            report.append(line(f"{name}: tokens placed", placed, "share", "aim, all of them", 1, "higher"))
            full = plan.report.utilisation
            report.append(line(f"{name}: positions used", full, "share", "aim", AIMS[method], "higher"))
        report += written(lengths, capacity) + kept(lengths, capacity)
        if peer:
            report += trl(lengths, capacity)
    return report


def written(lengths: Lengths, capacity: int) -> list[dict[str, object]]:
    """Planning and writing padded rows of 16 bits into memory, a block of rows after the other."""
    tokens = np.arange(int(lengths.sum(dtype=np.int64)), dtype=np.uint32).astype(np.uint16)
    block = np.zeros(_BLOCK_ROWS * capacity, np.uint16)

    def copy() -> None:
        for first in range(0, len(tokens), len(block)):
            part = tokens[first : first + len(block)]
            block[: len(part)] = part

    seconds = cpu_seconds(partial(pack_and_write, lengths, capacity, tokens, block), 3)
    floor = cpu_seconds(copy, 3)
    name = f"packing {len(lengths):,} documents into rows of {capacity} and writing them"
    limit = SECONDS * len(lengths) / 1_000_000
    return [
        line(name, seconds, "CPU-s", f"limit, {SECONDS} s a million", limit, "lower"),
        line(f"{name}, beside the copy alone", seconds, "CPU-s", "bare copy of the tokens", floor, "lower"),
    ]


def pack_and_write(
    lengths: Lengths, capacity: int, tokens: npt.NDArray[np.uint16], block: npt.NDArray[np.uint16]
) -> None:
    """The pieces of a block of rows are gathered; rows that are not full are then moved to their places."""
    plan = make_plan(Packing(too_long="split"), lengths, capacity)
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    for start in range(0, plan.num_rows, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, plan.num_rows))
        spans = plan.spans(rows)
        flat = gathered(tokens, begins[spans.documents] + spans.starts, spans.lengths)
        used = np.add.reduceat(spans.lengths, np.cumsum(spans.counts) - spans.counts)
        ends = np.cumsum(used).tolist()
        done = 0
        for row in [*np.flatnonzero(used < capacity).tolist(), len(rows)]:
            end = ends[min(row, len(rows) - 1)]
            place = row * capacity + (int(used[row]) if row < len(rows) else 0)
            block[place - (end - done) : place] = flat[done:end]
            block[place : (row + 1) * capacity if row < len(rows) else place] = 0
            done = end


def gathered(
    tokens: npt.NDArray[np.uint16], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint16]:
    """These pieces of `tokens`, one behind the other: views, which Arrow copies faster than it takes elements."""
    views = np.zeros(len(starts), _VIEW)
    places = starts * tokens.itemsize
    views["size"] = lengths * tokens.itemsize
    views["buffer"], views["offset"] = places >> _BUFFER_BITS, places & ((1 << _BUFFER_BITS) - 1)
    short = np.flatnonzero(lengths <= _INSIDE)  # a view holds these itself
    inside = np.arange(_INSIDE)
    held = tokens[np.minimum(starts[short, None] + inside, len(tokens) - 1)]
    held[inside >= lengths[short, None]] = 0
    views.view(np.uint16).reshape(-1, 8)[short, 2:] = held
    per_buffer = (1 << _BUFFER_BITS) // tokens.itemsize
    buffers = [tokens[first : first + per_buffer + int(lengths.max())] for first in range(0, len(tokens), per_buffer)]
    array = pa.Array.from_buffers(
        pa.binary_view(), len(views), [None, pa.py_buffer(views), *(pa.py_buffer(one) for one in buffers)]
    )
    return np.frombuffer(array.cast(pa.large_binary()).buffers()[2], np.uint16)


def kept(lengths: Lengths, capacity: int) -> list[dict[str, object]]:
    """From a plan on the disk to what stands in its first rows, for each method."""
    report = []
    with tempfile.TemporaryDirectory() as folder:
        found = SimpleNamespace(
            lengths=lengths, num_documents=len(lengths), folder=Path(folder), packing_fingerprint="bench"
        )
        store = cast("TokenStore", found)  # no token is read
        methods: list[Method] = ["best_fit", "windows", "stream", "concat"]
        for method in methods:
            key = PlanKey(Packing(method, too_long="split"), capacity)
            kept_plan(store, key, fewest=0)

            def first_rows(key: PlanKey = key) -> object:
                return kept_plan(store, key, fewest=0).spans(np.arange(16))

            name = f"kept plan of {len(lengths):,} documents in rows of {capacity}, {method}: to the first rows"
            milliseconds = 1000 * cpu_seconds(first_rows, 3)
            report.append(line(name, milliseconds, "CPU-ms", "limit", MILLISECONDS, "lower"))
    return report


def trl(lengths: Lengths, capacity: int) -> list[dict[str, object]]:
    """TRL on the same lengths; else what was measured of it elsewhere."""
    name = f"packing {len(lengths):,} documents into rows of {capacity} and writing them, beside TRL"
    tokens = np.zeros(int(lengths.sum(dtype=np.int64)), np.uint16)
    block = np.zeros(_BLOCK_ROWS * capacity, np.uint16)
    ours = cpu_seconds(partial(pack_and_write, lengths, capacity, tokens, block), 1)
    if importlib.util.find_spec("trl") is None:
        seconds, _, cut = ELSEWHERE[capacity]
        seconds *= len(lengths) / 1_000_000
        label = "TRL 1.16.0 as measured elsewhere, scaled to as many documents"
        return [
            line(name, ours, "CPU-s", label, seconds, "lower"),
            line(f"{name}: tokens placed", 1.0, "share", label, 1 - cut, "higher"),
        ]
    return [line(name, ours, "CPU-s", "TRL `bfd_split`, defaults, same run", trl_seconds(lengths, capacity), "lower")]


def trl_seconds(lengths: Lengths, capacity: int) -> float:
    from datasets import Dataset, disable_progress_bars

    pack_dataset: Any = importlib.import_module("trl").pack_dataset
    disable_progress_bars()
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))
    ids = pa.LargeListArray.from_arrays(offsets, pa.array(np.zeros(int(lengths.sum(dtype=np.int64)), np.uint16)))
    with tempfile.TemporaryDirectory() as folder:
        options = {"cache_file_name": f"{folder}/packed.arrow", "load_from_cache_file": False}
        data = Dataset(pa.table({"input_ids": ids}))
        started = time.process_time()
        pack_dataset(data, seq_length=capacity, strategy="bfd_split", map_kwargs=options)
        return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="200,000 documents in place of 1,000,000")
    parser.add_argument("--peer", action="store_true", help="beside TRL, where it can be imported")
    options = parser.parse_args()
    sizes = (200_000, 50_000) if options.quick else (1_000_000, 200_000)
    for entry in lines(*sizes, peer=options.peer):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
