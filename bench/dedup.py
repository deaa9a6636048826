"""Near-duplicate search: CPU time a document and recall, beside datasketch on the same documents; memory of the step.

Documents of 120 words out of 8,000; every fifth is a copy of one before with three words changed (Jaccard about 0.86 of
three-word n-grams). Both sides begin with texts, make the n-grams themselves, and verify what they find.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from _report import line, show

THRESHOLD, WORDS, LENGTH, CHANGED = 0.8, 8000, 120, 3
RECALL = 0.99
LIMIT = 15  # µs a document, on a machine on which datasketch takes 190
PEER_DOCUMENTS = 4000


def documents(number: int) -> Iterator[tuple[str, bool]]:
    """Texts, and whether each is a planted near-duplicate of the text four before it."""
    rng = random.Random(0)
    vocabulary = [f"w{word:04d}" for word in range(WORDS)]
    base: list[str] = []
    for index in range(number):
        if index % 5 == 4:
            text = list(base)
            for place in rng.sample(range(LENGTH), CHANGED):
                text[place] = rng.choice(vocabulary)
            yield " ".join(text), True
        else:
            text = rng.choices(vocabulary, k=LENGTH)
            base = text if index % 5 == 0 else base
            yield " ".join(text), False


def ours(texts: Sequence[str]) -> tuple[float, int]:
    """CPU seconds of the search from texts in memory, and how many rows it found to be repeats."""
    from stillhouse.curate._dedup import searched
    from stillhouse.curate._minhash import NearSketcher
    from stillhouse.curate._texts import BATCH_ROWS, TextBatch

    def batches() -> Iterator[TextBatch]:
        for start in range(0, len(texts), BATCH_ROWS):
            yield TextBatch(start, pa.table({}), list(texts[start : start + BATCH_ROWS]))

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        found = sum(
            len(batch.repeats) for batch in searched(batches, NearSketcher(THRESHOLD, 3, "words"), Path(folder))
        )
        return time.process_time() - started, found


def peer(texts: Sequence[str]) -> tuple[float, int]:
    """The same with datasketch: bulk MinHash, LSH, exact check of what it finds."""
    from datasketch import MinHash, MinHashLSH

    started = time.process_time()
    split = [text.split() for text in texts]
    sets = [{" ".join(words[start : start + 3]).encode() for start in range(len(words) - 2)} for words in split]
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    found = 0
    for number, sketch in enumerate(MinHash.bulk(sets, num_perm=128)):
        alike = (sets[other] for other in index.query(sketch))
        if any(len(sets[number] & other) / len(sets[number] | other) >= THRESHOLD for other in alike):
            found += 1
        else:
            index.insert(number, sketch)
    return time.process_time() - started, found


def child(rows: int, folder: Path) -> None:
    """The whole step over a table in the store; prints CPU seconds a row and the peak memory as JSON."""
    import stillhouse as sh

    source = folder / "rows.jsonl"
    with open(source, "w") as file:
        for text, _ in documents(rows):
            file.write(json.dumps({"input": text}) + "\n")
    with sh.Session(folder / "store", progress=False, track=False) as session:
        table = sh.Import(path=source, require=())
        session.run(table)
        started = time.process_time()
        session.run(sh.Dedup(rows=table))
        seconds = time.process_time() - started
        started = time.process_time()
        session.run(sh.Skip(rows=table, num=1))
        copying = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps({"seconds": seconds, "copying": copying, "peak_mb": peak}))


def whole_step(rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="dedup-") as folder:
        command = [sys.executable, __file__, "--child", str(rows), folder]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found


def lines(num_documents: int, sizes: tuple[int, int]) -> Iterator[dict[str, Any]]:
    made = list(documents(num_documents))
    texts, planted = [text for text, _ in made], sum(repeat for _, repeat in made)
    peer_seconds, peer_found = peer(texts[:PEER_DOCUMENTS])
    ours(texts[:2048])  # loads what it needs
    seconds, found = ours(texts)
    peer_cost = 1e6 * peer_seconds / PEER_DOCUMENTS
    yield line(
        "near-duplicate search", 1e6 * seconds / num_documents, "CPU-µs/document", "datasketch", peer_cost, "lower"
    )
    yield line("near-duplicate search", 1e6 * seconds / num_documents, "CPU-µs/document", "limit", LIMIT, "lower")
    recall, peer_recall = found / planted, peer_found / sum(repeat for _, repeat in made[:PEER_DOCUMENTS])
    yield line("planted near-duplicates found", recall, "share", "datasketch", peer_recall, "higher")
    yield line("planted near-duplicates found", recall, "share", "limit", RECALL, "higher")
    small, large = (whole_step(size) for size in sizes)
    name = f"Dedup step, {sizes[1]:,} rows"
    yield line(
        name,
        1e6 * large["seconds"] / sizes[1],
        "CPU-µs/row",
        "copying them",
        1e6 * large["copying"] / sizes[1],
        "lower",
    )
    yield line(f"{name}, peak memory", large["peak_mb"], "MB", f"peak at {sizes[0]:,} rows", small["peak_mb"], "lower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--quick", action="store_true", help="tables of 20,000 and 60,000 rows in place of 100,000 and 1,000,000"
    )
    parser.add_argument("--child", nargs=2, metavar=("ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), Path(options.child[1]))
        return
    sizes = (20_000, 60_000) if options.quick else (100_000, 1_000_000)
    for entry in lines(20_000, sizes):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
