"""Tokens handed out per CPU second beside a bare random memory map of the same run; the cost of resuming and changing.

Two sources (0.7 and 0.3) of lognormal documents, batches of 16 rows of 2,048 tokens as int64. The bare loop gathers
random rows of the same files and widens them, and knows nothing of documents.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.tokens._mixing import TOTAL, Schedule, integer_weights
from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest
from stillhouse.tokens.batch import Batch
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore

SEQ, ROWS = 2048, 16
SHARES = {"a": 0.7, "b": 0.3}


def make_source(folder: Path, num_tokens: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    layout = Layout(8192, 0, (1,))
    writer = SegmentWriter(folder / "segments", 0, layout)
    number = 0
    while writer.num_tokens < num_tokens:
        length = int(np.clip(random.lognormal(np.log(300), 0.9), 8, 16_384))
        writer.add(f"{number:032x}", random.integers(2, 8192, length).tolist())
        number += 1
    write_manifest(folder, layout, [writer.close((0, number))])


def bare(folder: Path) -> Iterator[npt.NDArray[np.int64]]:
    """Shuffled rows of both files, 11 and 5 a batch, by fancy indexing."""
    files = [np.memmap(folder / name / "segments" / "00000" / "tokens.bin", np.uint16, "r") for name in SHARES]
    rows = [file[: len(file) // SEQ * SEQ].reshape(-1, SEQ) for file in files]
    random = np.random.default_rng(0)
    orders = [random.permutation(len(source)) for source in rows]
    at = [0, 0]
    while True:
        batch = np.empty((ROWS, SEQ), np.int64)
        filled = 0
        for source, count in ((0, 11), (1, 5)):
            chosen = orders[source].take(np.arange(at[source], at[source] + count), mode="wrap")
            batch[filled : filled + count] = rows[source][chosen]
            at[source] += count
            filled += count
        yield batch


def loader_of(folder: Path, method: Method, state: dict[str, Any] | None = None) -> Loader:
    mixture = Mixture({name: (TokenStore(folder / name), share) for name, share in SHARES.items()})
    packing = Packing(method, too_long="split")
    return get_loader(mixture, seq_len=SEQ, batch_size=ROWS, packing=packing, state=state)


def everything(batch: Batch) -> object:
    return batch.labels, batch.weights, batch.position_ids, batch.document_ids


def speed(batches: Iterator[Any], count: int, use: Callable[[Any], object] = lambda batch: None) -> float:
    """Million tokens per CPU second, the first batch aside; the best of three."""
    found = []
    next(batches)
    for _ in range(3):
        started = time.process_time()
        for _ in range(count):
            use(next(batches))
        found.append(count * ROWS * SEQ / (time.process_time() - started) / 1e6)
    return max(found)


def milliseconds(work: Callable[[], object], repeat: int = 5) -> float:
    found = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found) * 1000


def speeds(folder: Path, count: int) -> list[dict[str, object]]:
    limit = speed(bare(folder), count)
    report = []
    methods: list[Method] = ["concat", "best_fit"]
    for method in methods:
        value = speed(loader_of(folder, method), count)
        report.append(line(f"loader, {method}, ids", value, "M tokens/CPU-s", "bare memory map", limit, "higher"))
        value = speed(loader_of(folder, method), count, everything)
        name = f"loader, {method}, ids, labels, weights, positions, documents"
        report.append(line(name, value, "M tokens/CPU-s", "bare memory map", limit, "higher"))
    return report


def resuming(folder: Path) -> list[dict[str, object]]:
    loader = loader_of(folder, "best_fit")
    for change in range(100):
        loader.set_weights({"a": 1 + change % 5, "b": 1})
        loader.batch(loader.step)
        next(loader)
    state = loader.state_dict()
    size = len(json.dumps(state).encode())
    far = {**state, "step": 10**11 // ROWS}
    report = [line("loader: state after 100 changes of weights", size, "bytes", "limit", 4096, "lower")]
    first = milliseconds(lambda: next(loader_of(folder, "concat")))
    report.append(line("loader, concat: open, plan, first batch", first, "CPU-ms", "limit", 50, "lower"))
    again = loader_of(folder, "best_fit")

    def resume() -> None:
        again.load_state_dict(far)
        next(again)

    report.append(
        line(
            "loader: resume at row 1e11 after 100 changes, plan at hand",
            milliseconds(resume),
            "CPU-ms",
            "limit",
            50,
            "lower",
        )
    )
    return report


def mixing() -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    report = []
    for num_sources in (2, 8, 32):
        weights = integer_weights(random.dirichlet(np.ones(num_sources)).tolist())
        sources = Schedule(weights).place(0, 60_000).sources
        counts = np.cumsum(np.eye(num_sources)[sources], axis=0)
        wanted = np.arange(1, 60_001)[:, None] * (np.array(weights) / TOTAL)
        worst = float(np.abs(counts - wanted).max())
        report.append(
            line(f"mixing {num_sources} sources: farthest from the shares", worst, "rows", "limit", 2, "lower")
        )
    schedule, row = Schedule(integer_weights([0.5, 0.3, 0.2])), 0
    for _ in range(2000):
        row += int(random.integers(1, 500))
        schedule.change(row, integer_weights(random.dirichlet(np.ones(3)).tolist()))
    lookup = milliseconds(lambda: schedule.place(row // 2, row // 2 + 1))
    report.append(line("mixing: source of a row after 2,000 changes", lookup, "CPU-ms", "limit", 2, "lower"))
    return report


def line(name: str, value: float, unit: str, reference: str, reference_value: float, better: str) -> dict[str, object]:
    return {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "reference": reference,
        "reference_value": float(f"{reference_value:.4g}"),
        "ratio": float(f"{value / reference_value:.4g}"),
        "better": better,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="2 × 10M tokens in place of 2 × 50M")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loader-") as name:
        folder = Path(name)
        for number, source in enumerate(SHARES):
            make_source(folder / source, 10_000_000 if options.quick else 50_000_000, number)
        report = [*speeds(folder, 600 if options.quick else 3000), *resuming(folder), *mixing()]
    for entry in report:
        print(
            json.dumps(entry)
            if options.json
            else f"{entry['name']}: {entry['value']:,} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        )


if __name__ == "__main__":
    main()
