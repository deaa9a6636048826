"""Tokens handed out per CPU second beside a bare random memory map and Grain; resuming, changing weights, memory.

Two sources (0.7 and 0.3) of lognormal documents, batches of 16 rows of 2,048 tokens as int64. The bare loop gathers
random rows of the same files and widens them, and knows nothing of documents; Grain mixes and shuffles the same rows
(`MapDataset.mix` of shuffled sources), and so does `datasets` streaming with `--peer`. "Rebuilt" is a blend that is
computed anew with other weights while the row number goes on, as Megatron-LM's is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _report import line, show

from stillhouse.tokens._mixing import TOTAL, Schedule, integer_weights
from stillhouse.tokens._segments import DOCS_SCHEMA, Layout, Segment, SegmentWriter, write_manifest
from stillhouse.tokens.batch import Batch
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore

SEQ, ROWS = 2048, 16
ROUNDS = 6
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


class RowsOfFile:
    """What Grain asks of a user: rows at random."""

    def __init__(self, path: Path) -> None:
        file = np.memmap(path, np.uint16, "r")
        self._rows = file[: len(file) // SEQ * SEQ].reshape(-1, SEQ)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        return self._rows[index].astype(np.int64)


def by_grain(folder: Path) -> Iterator[npt.NDArray[np.int64]]:
    """The same mixture by Grain, without threads: they cost CPU time and save none."""
    import grain

    sources = [
        grain.MapDataset.source(RowsOfFile(folder / name / "segments" / "00000" / "tokens.bin"))
        .shuffle(seed=1)
        .repeat()
        for name in SHARES
    ]
    mixed = grain.MapDataset.mix(sources, weights=list(SHARES.values())).batch(ROWS)
    return iter(mixed.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))


def by_streaming(folder: Path) -> Iterator[npt.NDArray[np.int64]]:
    """The same mixture by Hugging Face datasets: streamed, shuffled in a buffer, interleaved."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import disable_progress_bars, interleave_datasets, load_dataset

    disable_progress_bars()
    streams = []
    for name in SHARES:
        rows = RowsOfFile(folder / name / "segments" / "00000" / "tokens.bin")._rows[:4000]
        table = pa.table({"input_ids": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), SEQ)})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=256)
        stream = load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train", streaming=True)
        streams.append(stream.shuffle(seed=1, buffer_size=1000).repeat(None))
    mixed = interleave_datasets(streams, probabilities=list(SHARES.values()), seed=1, stopping_strategy="all_exhausted")
    for batch in mixed.with_format("numpy").iter(batch_size=ROWS):
        yield batch["input_ids"].astype(np.int64)


def loader_of(folder: Path, method: Method, state: dict[str, Any] | None = None, prefetch: int = 0) -> Loader:
    sources = {name: (TokenStore(folder / name), share) for name, share in SHARES.items()}
    packing = Packing(method, too_long="split")
    return get_loader(
        Mixture(sources, max_epochs=None), seq_len=SEQ, batch_size=ROWS, packing=packing, state=state, prefetch=prefetch
    )


def everything(batch: Batch) -> object:
    return batch.labels, batch.weights, batch.position_ids, batch.document_ids


class Case(NamedTuple):
    """Batches, how many of them a round takes, and what is done with each."""

    batches: Iterator[Any]
    count: int
    use: Callable[[Any], object] = lambda batch: None


def side_by_side(cases: Mapping[str, Case]) -> dict[str, float]:
    """Million tokens per CPU second of each, the first batch aside, over some rounds in which each has its turn: the
    pace of a shared machine moves, and a loader plans many batches at once."""
    spent = dict.fromkeys(cases, 0.0)
    for case in cases.values():
        next(case.batches)
    for _ in range(ROUNDS):
        for name, case in cases.items():
            started = time.process_time()
            for _ in range(case.count):
                case.use(next(case.batches))
            spent[name] += time.process_time() - started
    return {name: ROUNDS * case.count * ROWS * SEQ / spent[name] / 1e6 for name, case in cases.items()}


def milliseconds(work: Callable[[], object], repeat: int = 5) -> float:
    found = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found) * 1000


def speeds(folder: Path, count: int, peer: bool) -> list[dict[str, object]]:
    methods: tuple[Method, ...] = ("concat", "best_fit")
    all_of_it = "labels, weights, positions, documents"
    with loader_of(folder, "concat", prefetch=2) as ahead:
        cases = {
            "bare": Case(bare(folder), count),
            "grain": Case(by_grain(folder), max(50, count // 20)),
            "ahead": Case(ahead, count),
        }
        for method in methods:
            cases[method] = Case(loader_of(folder, method), count)
            cases[f"{method}, {all_of_it}"] = Case(loader_of(folder, method), count, everything)
        if peer:
            cases["streaming"] = Case(by_streaming(folder), max(20, count // 100))
        found = side_by_side(cases)

    def beside(name: str, case: str, reference: str, other: str) -> dict[str, object]:
        return line(name, found[case], "M tokens/CPU-s", reference, found[other], "higher")

    report = [
        beside("loader, concat, ids", "concat", "grain", "grain"),
        beside("loader, concat, ids, prefetch=2", "ahead", "grain", "grain"),
    ]
    if peer:
        report.append(beside("grain", "grain", "datasets streaming", "streaming"))
    for method in methods:
        report.append(beside(f"loader, {method}, ids", method, "bare memory map", "bare"))
        case = f"{method}, {all_of_it}"
        report.append(beside(f"loader, {method}, ids, {all_of_it}", case, "bare memory map", "bare"))
    return report


def state_bytes(folder: Path) -> int:
    """The state of a run with five sources at row 1e11, as JSON; each change has its reason."""
    store = TokenStore(folder / "a")
    mixture = Mixture({f"source-{number}": (store, 1.0) for number in range(5)}, max_epochs=None)
    loader = get_loader(mixture, seq_len=SEQ, batch_size=ROWS, packing=Packing("concat"))
    for change in range(100):
        loader.load_state_dict({**loader.state_dict(), "step": 10**11 // ROWS + 1000 * change})
        weights = {name: 1.0 + (7 * change + 13 * number) % 23 for number, name in enumerate(mixture.sources)}
        loader.set_weights(weights, reason="loss on held-out rows")
    return len(json.dumps(loader.state_dict()).encode())


def resuming(folder: Path) -> list[dict[str, object]]:
    loader = loader_of(folder, "best_fit")
    for change in range(100):
        loader.set_weights({"a": 1 + change % 5, "b": 1})
        loader.batch(loader.step)
        next(loader)
    state = loader.state_dict()
    far = {**state, "step": 10**11 // ROWS}
    size = state_bytes(folder)
    report = [
        line("loader: state after 100 changes of the weights of five sources", size, "bytes", "limit", 4096, "lower")
    ]
    first = milliseconds(lambda: next(loader_of(folder, "concat")))
    report.append(line("loader, concat: open, plan, first batch", first, "CPU-ms", "limit", 50, "lower"))
    next(loader_of(folder, "best_fit"))  # the plan is kept beside the store
    first = milliseconds(lambda: next(loader_of(folder, "best_fit")))
    report.append(line("loader, best_fit, plan kept: open, first batch", first, "CPU-ms", "limit", 50, "lower"))
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


def dice(weights: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.int64]:
    return random.choice(len(weights), size=60_000, p=np.array(weights) / TOTAL)


def chain(weights: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Nested rounding down the sources in their order, as Grain's mix does it."""
    left, rest = np.arange(60_001), TOTAL
    counts = []
    for weight in weights:
        after = left * (rest - weight) // rest if rest else left * 0
        counts.append(left - after)
        left, rest = after, rest - weight
    return np.argmax(np.diff(np.array(counts), axis=1), axis=0)


def changing() -> list[dict[str, object]]:
    """Rows skipped and repeated when 1 : 1 becomes 2 : 1 at row 30,000 of 60,000."""
    before, after, at = integer_weights([1, 1]), integer_weights([2, 1]), 30_000
    ours = Schedule(before)
    ours.change(at, after)
    old, new = Schedule(before).place(0, 2 * at), Schedule(after).place(0, 2 * at)
    found = {}
    for name, first, second in (("ours", ours.place(0, 2 * at), ours.place(0, 2 * at)), ("rebuilt", old, new)):
        seen = set(zip(first.sources[:at].tolist(), first.ordinals[:at].tolist(), strict=True))
        later = list(zip(second.sources[at:].tolist(), second.ordinals[at:].tolist(), strict=True))
        repeated = sum(pair in seen for pair in later)
        skipped = sum(
            max(0, min(draw for source, draw in later if source == k) - sum(source == k for source, _ in seen))
            for k in (0, 1)
        )
        found[name] = (repeated, skipped)
    return [
        line(
            f"mixing: rows {what} by a change of weights",
            found["ours"][number],
            "rows",
            "rebuilt",
            max(1, found["rebuilt"][number]),
            "lower",
        )
        for number, what in enumerate(("repeated", "skipped"))
    ]


def memory(megabytes: int) -> list[dict[str, object]]:
    """Anonymous memory of a process that opens a corpus of sparse files (5,000 million tokens in full) and reads it."""
    code = """
import sys
from pathlib import Path
from bench_loader import sparse_corpus, anonymous
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Packing
folder = Path(sys.argv[2])
sparse_corpus(folder, int(sys.argv[1]))
before = anonymous()
loader = get_loader(str(folder), seq_len=2048, batch_size=16, packing=Packing("concat"))
for step in range(0, 4000, 10):
    loader.batch(step)
loader.account(3999)
loader.rows_at_step(77)
print(anonymous(), before)
"""
    with tempfile.TemporaryDirectory(prefix="sparse-") as folder:
        script = code.replace(
            "from bench_loader", f"import sys; sys.path.append({str(Path(__file__).parent)!r})\nfrom loader"
        )
        command = [sys.executable, "-c", script, str(megabytes), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    held = float(done.stdout.split()[0])
    name = f"loader: anonymous memory over a corpus of {megabytes / 1000:g} GB"
    return [line(name, held, "MB", "limit", 500, "lower")]


def sparse_corpus(folder: Path, megabytes: int) -> None:
    """A store of segments of 128 MB, documents of 1,000 tokens each; the token files are holes."""
    layout = Layout(8192, 0, (1,))
    per_segment = 128_000_000 // 2000
    segments = []
    for number in range(-(-megabytes // 128)):
        path = folder / "segments" / f"{number:05d}"
        path.mkdir(parents=True)
        with (path / "tokens.bin").open("wb") as file:
            file.truncate(per_segment * 2000)
        ids = pa.array([f"{number:016x}{document:016x}" for document in range(per_segment)])
        columns = [ids, np.arange(per_segment) * 1000, np.full(per_segment, 1000, np.int32)]
        sources = pa.DictionaryArray.from_arrays(pa.array(np.zeros(per_segment, np.int32)), pa.array([""]))
        roles = pa.array([[]] * per_segment, DOCS_SCHEMA.field("roles").type)
        columns += [sources, np.ones(per_segment, np.float32), roles]
        arrays = [
            pa.array(column).cast(field.type) if not isinstance(column, pa.Array) else column.cast(field.type)
            for column, field in zip(columns, DOCS_SCHEMA, strict=True)
        ]
        with pa.OSFile(str(path / "docs.arrow"), "wb") as out, pa.ipc.new_file(out, DOCS_SCHEMA) as writer:
            writer.write_batch(pa.record_batch(arrays, schema=DOCS_SCHEMA))
        segments.append(
            Segment(
                f"{number:05d}",
                per_segment,
                per_segment * 1000,
                per_segment * 999,
                (number * per_segment, (number + 1) * per_segment),
                0,
                True,
                {"tokens.bin": f"{number:032x}", "docs.arrow": f"{number:032x}"},
            )
        )
    write_manifest(folder, layout, segments)


def anonymous() -> float:
    """Megabytes of this process that are no files."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return next(int(entry.split()[1]) for entry in file if entry.startswith("Anonymous:")) / 1000


def mixing() -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    report = []
    for num_sources in (2, 8, 32):
        weights = integer_weights(random.dirichlet(np.ones(num_sources)).tolist())
        sources = Schedule(weights).place(0, 60_000).sources
        counts = np.cumsum(np.eye(num_sources)[sources], axis=0)
        wanted = np.arange(1, 60_001)[:, None] * (np.array(weights) / TOTAL)
        worst = float(np.abs(counts - wanted).max())
        name = f"mixing {num_sources} sources: farthest from the shares"
        report.append(line(name, worst, "rows", "limit", 2, "lower"))
        for other, order in (("dice", dice(weights, random)), ("grain's chain", chain(weights))):
            counts = np.cumsum(np.eye(num_sources)[order], axis=0)
            report.append(line(name, worst, "rows", other, float(np.abs(counts - wanted).max()), "lower"))
    report += changing()
    schedule, row = Schedule(integer_weights([0.5, 0.3, 0.2])), 0
    for _ in range(2000):
        row += int(random.integers(1, 500))
        schedule.change(row, integer_weights(random.dirichlet(np.ones(3)).tolist()))
    lookup = milliseconds(lambda: schedule.place(row // 2, row // 2 + 256))
    report.append(line("mixing: sources of 256 rows after 2,000 changes", lookup, "CPU-ms", "limit", 2, "lower"))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="2 × 10M tokens in place of 2 × 50M")
    parser.add_argument("--peer", action="store_true", help="Hugging Face datasets too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loader-") as name:
        folder = Path(name)
        for number, source in enumerate(SHARES):
            make_source(folder / source, 10_000_000 if options.quick else 50_000_000, number)
        report = [*speeds(folder, 600 if options.quick else 3000, options.peer), *resuming(folder), *mixing()]
    report += memory(1_000 if options.quick else 10_000)
    for entry in report:
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
