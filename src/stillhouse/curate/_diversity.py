"""Measures of diversity of a sample of rows.

`N` texts or vectors, `H` width of a vector, each of length 1.
"""

from __future__ import annotations

import json
import math
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..core._tables import arrow_batches
from ..core.artifact import Rows
from ..rows._apportion import keys_of
from ..rows.transform import missing_column
from ..text.ngrams import words
from ._kmeans import clustered, nearest_centre
from ._vectors import Vectors, matrix_of
from .diversity import HELP, Diversity
from .finding import plain_text

if TYPE_CHECKING:
    from ..core.context import Context

Measures = dict[str, float | None]
BLEU_ORDER = 4
DISTINCT = (1, 2, 3)


def write_diversity(step: Diversity, context: Context) -> None:
    """The work of `Diversity`."""
    tables = {name: context.get(rows) for name, rows in step.of.items()}
    found = measured(tables, step.columns, step.vectors, step.clusters, step.sample, step.num_words, step.seed)
    value = {"kind": "diversity", "format": 1, "tables": found, "help": HELP}
    (context.folder / "report.json").write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))
    (context.folder / "report.txt").write_text(text_table(found) + "\n", encoding="utf-8")


def measured(
    tables: Mapping[str, Rows],
    columns: Sequence[str],
    vectors: str | None,
    clusters: int | None,
    sample: int,
    num_words: int,
    seed: int,
) -> dict[str, Measures]:
    """The measures by table."""
    wanted = [*columns, *([vectors] if vectors else [])]
    samples = {name: sampled(rows, wanted, sample, seed) for name, rows in tables.items()}
    texts = {name: texts_of(table, columns) for name, table in samples.items()}
    split = {name: [words(text) for text in each] for name, each in texts.items()}
    runs = {name: {size: ngram_counts(each, size) for size in DISTINCT} for name, each in split.items()}
    # Longer text has fewer new n-grams and compresses better: all tables are measured at the length of the shortest.
    totals = [sum(map(len, each)) for each in split.values()]
    most_words = min([num_words, *filter(None, totals)])
    most = {
        size: min([num_words, *(total for own in runs.values() if (total := sum(own[size].values())))])
        for size in DISTINCT
    }
    found: dict[str, Measures] = {}
    for name in tables:
        found[name] = {"rows": len(tables[name]), **text_measures(texts[name], split[name], most_words)}
        if texts[name]:
            found[name] |= {f"distinct {size}": distinct(runs[name][size], most[size]) for size in DISTINCT}
    if vectors:
        matrices = {name: matrix_of(table, vectors, "Diversity") for name, table in samples.items()}
        centres = None
        first = next(iter(matrices.values()))
        if clusters and len(first):
            centres = clustered(first, clusters, seed).centres
        for name, matrix in matrices.items():
            found[name] |= vector_measures(matrix, centres)
    return found


def sampled(rows: Rows, columns: Sequence[str], num: int, seed: int) -> pa.Table:
    """The `num` rows with the smallest keys, in the order of these; one pass, in constant memory."""
    for name in columns if len(rows) else ():
        if name not in rows.columns:
            raise missing_column("Diversity", name, rows.columns)
    have = [name for name in columns if name in rows.columns]
    kept: pa.Table | None = None
    keys = np.zeros(0, dtype=np.uint64)
    bound = np.iinfo(np.uint64).max
    for batch in arrow_batches(rows.paths, 8192, ["_id", *have]):
        fresh = keys_of(batch.column("_id").to_pylist(), seed)
        below = fresh <= bound
        part = pa.Table.from_batches([batch]).filter(pa.array(below))
        keys = np.concatenate([keys, fresh[below]])
        kept = part if kept is None else pa.concat_tables([kept, part])
        if len(keys) > num:
            order = np.argsort(keys, kind="stable")[:num]
            keys, kept = keys[order], kept.take(pa.array(order))
            bound = keys[-1]
    if kept is None:
        return pa.table({name: pa.nulls(0) for name in columns})
    return kept.take(pa.array(np.argsort(keys, kind="stable")))


def texts_of(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """The texts that hold anything."""
    parts = [[plain_text(value) for value in table.column(name).to_pylist()] for name in columns]
    return [text for text in ("\n".join(values) for values in zip(*parts, strict=True)) if text.strip()]


def text_measures(texts: Sequence[str], split: Sequence[Sequence[str]], most: int) -> Measures:
    """Of texts and their words, all but distinct n-grams; the first `most` words are compressed."""
    num = len(texts)
    if num == 0:
        return {"looked at": 0}
    left = most
    runs: list[Sequence[str]] = []
    for own in split:
        if left <= 0:
            break
        runs.append(own[:left])
        left -= len(own)
    data = "\n".join(" ".join(own) for own in runs).encode(errors="surrogatepass")
    return {
        "looked at": num,
        "words": sum(map(len, split)) / num,
        "distinct texts": len({tuple(own) for own in split}) / num,
        "compression": len(data) / len(zlib.compress(data, 9)) if data else None,
        "self-BLEU": self_bleu(split),
    }


def ngram_counts(texts: Sequence[Sequence[str]], size: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram occurs; none reaches over the end of a text."""
    found: Counter[tuple[str, ...]] = Counter()
    for own in texts:
        found.update(_counts(own, size))
    return found


def distinct(counts: Mapping[tuple[str, ...], int], most: int) -> float | None:
    """Different n-grams for each n-gram, expected among `most` drawn from all without repeats.

    That is the rarefaction of ecologists (Hurlbert 1971): one that occurs c times among N is missed by a draw of m with
    a probability of C(N − c, m) / C(N, m). Of no more than `most` n-grams it is the plain share.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    drawn = min(most, total)
    expected = 0.0
    for count, kinds in Counter(counts.values()).items():
        missed = 0.0
        if total - count >= drawn:
            missed = math.exp(
                math.lgamma(total - count + 1)
                - math.lgamma(total - count - drawn + 1)
                + math.lgamma(total - drawn + 1)
                - math.lgamma(total + 1)
            )
        expected += kinds * (1 - missed)
    return expected / drawn


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """The mean of BLEU-4 of each text against all others.

    What all others have of an n-gram at most is the largest count of all texts, or, for the text that has it, the
    second largest: so it takes one pass over the n-grams, not one for each pair.
    """
    texts = [own for own in texts if own]
    if len(texts) < 2:
        return None
    counted = [[_counts(own, size) for size in range(1, min(BLEU_ORDER, len(own)) + 1)] for own in texts]
    largest: dict[tuple[str, ...], tuple[int, int, int]] = {}  # (largest, whose, second largest)
    for number, orders in enumerate(counted):
        for counts in orders:
            for run, count in counts.items():
                best, owner, second = largest.get(run, (0, -1, 0))
                if count > best:
                    largest[run] = (count, number, best)
                elif count > second:
                    largest[run] = (best, owner, count)
    lengths = sorted(map(len, texts))
    total = 0.0
    for number, (own, orders) in enumerate(zip(texts, counted, strict=True)):
        logs = 0.0
        for counts in orders:
            matched = 0
            for run, count in counts.items():
                best, owner, second = largest[run]
                matched += min(count, second if owner == number else best)
            if matched == 0:
                break
            logs += math.log(matched / sum(counts.values())) / len(orders)
        else:
            total += math.exp(logs + min(0.0, 1 - _closest(lengths, len(own)) / len(own)))
    return total / len(texts)


def _counts(own: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(own[start : start + size]) for start in range(len(own) - size + 1))


def _closest(lengths: Sequence[int], own: int) -> int:
    """The length nearest to `own` among those of the other texts, the shorter of two."""
    place = bisect_left(lengths, own)
    near = [lengths[other] for other in (place - 1, place + 1) if 0 <= other < len(lengths)]
    return min(near, key=lambda length: (abs(length - own), length))


def vector_measures(vectors: Vectors, centres: Vectors | None) -> Measures:
    """Of vectors, rows of zeros (those without one) left out."""
    vectors = vectors[np.any(vectors != 0, axis=1)]
    num = len(vectors)
    if num == 0:
        return {}
    found: Measures = {"spread": spread(vectors), "Vendi": vendi(vectors)}
    if centres is not None:
        counts = np.bincount(nearest_centre(vectors, centres), minlength=len(centres))
        shares = counts[counts > 0] / num
        found["clusters reached"] = float((counts > 0).mean())
        found["evenness"] = float(np.exp(-(shares * np.log(shares)).sum()) / len(centres))
    return found


def spread(vectors: Vectors) -> float | None:
    """1 − the mean cosine of two different rows, by the length of their sum."""
    num = len(vectors)
    if num < 2:
        return None
    exact = vectors.astype(np.float64)
    total = exact.sum(axis=0)
    return float(1 - (total @ total - (exact * exact).sum()) / (num * (num - 1)))


def vendi(vectors: Vectors) -> float:
    """e to the entropy of the eigenvalues of X Xᵀ / N, which are those of Xᵀ X / N."""
    exact = vectors.astype(np.float64)
    gram = exact @ exact.T if len(exact) <= exact.shape[1] else exact.T @ exact
    values = np.linalg.eigvalsh(gram / len(exact))
    values = values[values > 1e-12]
    values = values / values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


def text_table(tables: Mapping[str, Measures]) -> str:
    """One measure a line, one table a column."""
    names = [name for name in HELP if any(name in found for found in tables.values())]
    lines = [["", *tables], *([name, *(shown(found.get(name)) for found in tables.values())] for name in names)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    notes = ["", *(HELP[name] for name in names)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:]), note]).rstrip()
        for line, note in zip(lines, notes, strict=True)
    )


def shown(value: float | None) -> str:
    """A number for people: whole ones whole, others with three digits behind the point."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
