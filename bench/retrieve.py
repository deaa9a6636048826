"""Vectors and retrieval: exact search beside numpy and usearch, memory by size of the corpus, vectors found again.

Vectors of 384 numbers and length 1 that vary in 32 directions, as those of texts do; 512 queries, 10 nearest of each.
CPU seconds, all libraries with one thread. The whole step (`Retrieve`) runs in a process of its own, whose memory is
counted without the pages of files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _report import line, show

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

WIDTH, QUERIES, NEAREST = 384, 512, 10
ROUNDS = 3


def unit(rows: int, seed: int) -> Any:
    import numpy as np

    draws = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(32, WIDTH))
    found = (draws.normal(size=(rows, 32)) @ directions + 0.5 * draws.normal(size=(rows, WIDTH))).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """The least CPU seconds of some rounds, and what the last gave."""
    best, found = float("inf"), None
    for _ in range(ROUNDS):
        started = time.process_time()
        found = work()
        best = min(best, time.process_time() - started)
    return best, found


def search(rows: int) -> Iterator[dict[str, Any]]:
    """Exact search over vectors in a file, beside arithmetic over vectors in memory."""
    import numpy as np

    from stillhouse.calls.nearest import VectorFile, nearest

    corpus, queries = unit(rows, 0), unit(QUERIES, 1)

    def plain() -> Any:
        scores = queries @ corpus.T
        places = np.argpartition(-scores, NEAREST, axis=1)[:, :NEAREST]
        own = np.take_along_axis(scores, places, 1)
        return np.take_along_axis(places, np.argsort(-own, axis=1), 1)

    with tempfile.TemporaryDirectory(prefix="retrieve-") as folder:
        path = Path(folder) / "vectors.f32"
        corpus.tofile(path)
        file = VectorFile(path, WIDTH)
        product, _ = cpu(lambda: queries @ corpus.T)
        reference, expected = cpu(plain)
        seconds, found = cpu(lambda: nearest(queries, file, NEAREST))
    name, unit_name = f"exact search of {rows:,}", "CPU-ms/query"
    ours = 1e3 * seconds / QUERIES
    yield line(name, ours, unit_name, "numpy: product, argpartition", 1e3 * reference / QUERIES, "lower")
    yield line(name, ours, unit_name, "the product alone", 1e3 * product / QUERIES, "lower")
    yield line("found by both", shared(found.places, expected), "share", "numpy", 1.0, "higher")


def shared(left: Any, right: Any) -> float:
    """The share of places that stand in both."""
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return sum(len(set(own) & set(other)) for own, other in pairs) / left.size


def approximate(rows: int) -> Iterator[dict[str, Any]]:
    """usearch's graph over the same vectors: what it costs to make and to ask, and what it overlooks."""
    try:
        from usearch.index import Index
    except ImportError:
        return
    import numpy as np

    from stillhouse.calls.nearest import VectorFile, nearest

    corpus, queries = unit(rows, 0), unit(QUERIES, 1)
    with tempfile.TemporaryDirectory(prefix="retrieve-") as folder:
        path = Path(folder) / "vectors.f32"
        corpus.tofile(path)
        file = VectorFile(path, WIDTH)
        seconds, exact = cpu(lambda: nearest(queries, file, NEAREST))
    graph = Index(ndim=WIDTH, metric="ip", dtype="f32", connectivity=16, expansion_add=128, expansion_search=128)
    started = time.process_time()
    graph.add(np.arange(rows), corpus, threads=1)
    making = time.process_time() - started
    asking, matches = cpu(lambda: graph.search(queries, NEAREST, threads=1))
    name = f"exact search of {rows:,}"
    yield line(name, 1e3 * seconds / QUERIES, "CPU-ms/query", "usearch HNSW", 1e3 * asking / QUERIES, "lower")
    yield line(f"{name}, {QUERIES} queries", seconds, "CPU-s", "building usearch HNSW", making, "lower")
    found = shared(np.asarray(matches.keys), exact.places)
    yield line("found of the nearest", 1.0, "share", "usearch HNSW", found, "higher")


def child(rows: int, folder: Path) -> None:
    """`Index` over given vectors and `Retrieve` of 2,000 rows from it; prints CPU seconds and peaks as JSON."""
    import stillhouse as sh

    write_table(folder / "corpus.parquet", rows, 0)
    write_table(folder / "queries.parquet", 2000, 1)
    with sh.Session(folder / "store", progress=False, track=False) as session:
        index = sh.Index(
            rows=sh.Import(path=folder / "corpus.parquet", require=()), by=None, column="vector", keep=("text",)
        )
        session.run(index)
        queries = sh.Import(path=folder / "queries.parquet", require=())
        session.run(queries)
        peak = AnonymousPeak()
        started = time.process_time()
        session.run(sh.Retrieve(rows=queries, index=index, column="vector", k=NEAREST))
        seconds = time.process_time() - started
    found = {"seconds": seconds, "anonymous_mb": peak.stop()}
    print(json.dumps({**found, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def write_table(path: Path, rows: int, seed: int) -> None:
    """Rows with a text and a vector."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("text", pa.string()), ("vector", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 10_000):
            vectors = unit(min(10_000, rows - start), start + seed)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH).cast(pa.list_(pa.float32()))
            texts = [f"text {start + place}" for place in range(len(vectors))]
            writer.write_table(pa.table([pa.array(texts), flat], schema=schema))


class AnonymousPeak:
    """The most memory of this process's own, pages of files left out, that was seen while it ran."""

    def __init__(self) -> None:
        import threading

        self._most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            status = Path("/proc/self/status")
            if not status.exists():
                return
            for entry in status.read_text().splitlines():
                if entry.startswith("RssAnon"):
                    self._most = max(self._most, int(entry.split()[1]) / 1024)

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._most or 1.0


def whole_step(rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="retrieve-") as folder:
        command = [sys.executable, __file__, "--child", str(rows), folder]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found


def steps(small: int, large: int) -> Iterator[dict[str, Any]]:
    first, second = whole_step(small), whole_step(large)
    name = f"Retrieve step, {large:,} rows, own memory"
    yield line(name, second["anonymous_mb"], "MB", f"with {small:,} rows", first["anonymous_mb"], "lower")
    cost = 1e3 * second["seconds"] / 2000
    yield line("Retrieve step", cost, "CPU-ms/row", f"with {small:,} rows", 1e3 * first["seconds"] / 2000, "lower")


def found_again(texts: int, width: int) -> Iterator[dict[str, Any]]:
    """Vectors of `width` numbers that are kept: the service asked again, beside the bare look-ups in its file."""
    import numpy as np

    from stillhouse.calls.credentials import Credentials
    from stillhouse.calls.embedder import Embedder
    from stillhouse.calls.providers.embed_python import script_vectors
    from stillhouse.calls.service import CallService
    from stillhouse.core.events import Bus

    draws = np.random.default_rng(0).normal(size=width).astype(np.float32)
    script = script_vectors("bench", lambda text: (draws * len(text)).tolist())
    asked = [f"a text of some length, number {number}" for number in range(texts)]
    by = Embedder(model="scripted:bench")

    async def run(folder: str) -> tuple[float, float, int]:
        service = CallService(Path(folder), bus=Bus(), credentials=Credentials())
        try:
            made = await service.vectors(by, asked)
            calls = len(script.calls)
            best = bare = float("inf")
            for _ in range(ROUNDS):
                started = time.process_time()
                await service.vectors(by, asked)
                best = min(best, time.process_time() - started)
                keys = [bytes.fromhex(key) for key in made.keys]
                started = time.process_time()
                service.cache.look_up(keys)
                bare = min(bare, time.process_time() - started)
            return best, bare, len(script.calls) - calls
        finally:
            await service.aclose()

    with tempfile.TemporaryDirectory(prefix="vectors-") as folder:
        seconds, bare, calls = asyncio.run(run(folder))
    if calls:
        raise RuntimeError(f"{calls} calls were made for vectors that are kept")
    cost = 1e6 * seconds / texts
    yield line(f"vectors of {width} found again", cost, "CPU-µs/text", "limit", 20.0, "lower")
    yield line(f"vectors of {width} found again", cost, "CPU-µs/text", "bare look-up", 1e6 * bare / texts, "lower")


def hashed(texts: int) -> Iterator[dict[str, Any]]:
    """The embedder without a model, beside counting the same n-grams in Python."""
    from collections import Counter

    from stillhouse.calls.providers.embed_hash import SIZES, hashed_vectors
    from stillhouse.text.ngrams import words

    asked = [f"what people write is about as long as this, and number {number} is no other" for number in range(texts)]

    def counted() -> None:
        for text in asked:
            line = f" {' '.join(words(text))} "
            Counter(line[start : start + size] for size in SIZES for start in range(len(line) - size + 1))

    seconds, _ = cpu(lambda: hashed_vectors(asked, 256))
    reference, _ = cpu(counted)
    cost = 1e6 * seconds / texts
    yield line("hashed vectors", cost, "CPU-µs/text", "counting n-grams in Python", 1e6 * reference / texts, "lower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="20,000 vectors in place of 200,000, a graph of 5,000")
    parser.add_argument("--child", nargs=2, metavar=("ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), Path(options.child[1]))
        return
    rows = 20_000 if options.quick else 200_000
    parts = (
        search(rows),
        approximate(5_000 if options.quick else 20_000),
        steps(rows // 10, rows),
        found_again(4096, 384),
        found_again(4096, 1536),
        hashed(4000),
    )
    for part in parts:
        for entry in part:
            show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
