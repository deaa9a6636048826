"""What token stores hold: lengths, sources, roles, rejected rows; and which row length suits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._packing import make_plan
from .packing import Method, Packing
from .store import TokenStore

Int64s = npt.NDArray[np.int64]

METHODS: tuple[Method, ...] = ("best_fit", "concat", "one")
_NUM_BINS = 16
_NUM_LENGTHS = 5
_SHORTEST, _LONGEST = 64, 1 << 17
_FITTING = 0.99
"""The share of documents that a row length should hold whole."""


@dataclass(frozen=True)
class SourceTokens:
    """What one source holds."""

    documents: int
    tokens: int
    learnt: int
    rejected: int
    size_bytes: int
    roles: Mapping[str, int]
    """Tokens of each role, in conversations."""
    named: Mapping[str, int]
    """Tokens by the name that documents carry, where there are several (`Tokenize(source=…)`)."""


@dataclass(frozen=True)
class Bin:
    """Documents of `low` … `high` tokens."""

    low: int
    high: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class LongDocument:
    source: str
    document: int
    row_id: str
    tokens: int


@dataclass(frozen=True)
class Packed:
    """What a packing method makes of the documents at a row length."""

    rows: int
    utilisation: float
    """Share of the rows' positions that hold a token."""
    split: int
    left_out: int


@dataclass(frozen=True)
class RowLength:
    """A row length: what fits whole, and what packing makes of it."""

    seq_len: int
    fits: float
    """Share of the documents that are not longer."""
    tokens_fit: float
    """Share of the tokens that stand in those."""
    packed: Mapping[str, Packed]


@dataclass(frozen=True)
class TokenStatistics:
    """What stores hold, all together and each."""

    sources: Mapping[str, SourceTokens]
    quantiles: Mapping[str, int]
    """Lengths in tokens: min, p50, p90, p99, max."""
    histogram: Sequence[Bin]
    longest: Sequence[LongDocument]
    rejects: Mapping[str, int]
    """Rejected rows by kind."""
    row_lengths: Sequence[RowLength] = field(default=())
    advice: str = ""

    @property
    def documents(self) -> int:
        return sum(source.documents for source in self.sources.values())

    @property
    def tokens(self) -> int:
        return sum(source.tokens for source in self.sources.values())

    @property
    def learnt(self) -> int:
        return sum(source.learnt for source in self.sources.values())


def token_statistics(
    stores: Mapping[str, TokenStore], *, seq_lens: Sequence[int] | None = None, num_longest: int = 5
) -> TokenStatistics:
    """Statistics over the stores, by name; `seq_lens` are the row lengths to compare (default: those that may suit).

    Rows and utilisation are those of real packing plans, each source packed for itself, long documents cut.
    """
    full = {name: store for name, store in stores.items() if store.num_documents}
    if not full:
        names = ", ".join(f"`{store.folder}`" for store in stores.values())
        raise RecipeError(f"there are no documents in {names or 'no store'}", "See its `rejects.jsonl`.")
    lengths: npt.NDArray[np.int32] = np.concatenate([store.lengths for store in full.values()])
    ordered = np.sort(lengths)
    row_lengths = [_row_length(full, ordered, size) for size in seq_lens or suitable_lengths(ordered)]
    return TokenStatistics(
        sources={name: _source_tokens(store) for name, store in stores.items()},
        quantiles=_quantiles(ordered),
        histogram=_histogram(ordered),
        longest=_longest(full, num_longest),
        rejects=dict(Counter(str(line["kind"]) for store in stores.values() for line in store.rejects())),
        row_lengths=row_lengths,
        advice=_advice(row_lengths, int(ordered[-1])),
    )


def suitable_lengths(ordered: npt.NDArray[np.int32]) -> list[int]:
    """Powers of two around the lengths of most documents; `ordered` are the lengths, ascending."""
    top = _power(int(ordered[-1]))
    wanted = _power(int(ordered[min(len(ordered) - 1, int(len(ordered) * _FITTING))]))
    low = max(_SHORTEST, min(wanted >> (_NUM_LENGTHS - 2), top >> (_NUM_LENGTHS - 1)))
    sizes = [size for size in (1 << power for power in range(4, 21)) if low <= size <= max(top, low)]
    near = [size for size in sizes if wanted >> (_NUM_LENGTHS - 2) <= size <= wanted << 1]
    return [size for size in (near or sizes)[-_NUM_LENGTHS:] if size <= _LONGEST] or [_LONGEST]


def _power(length: int) -> int:
    return 1 << max(0, length - 1).bit_length()


def _row_length(stores: Mapping[str, TokenStore], ordered: npt.NDArray[np.int32], seq_len: int) -> RowLength:
    inside = int(np.searchsorted(ordered, seq_len, side="right"))
    whole = int(ordered.sum(dtype=np.int64))
    packed: dict[str, Packed] = {method: _packed(stores, method, seq_len) for method in METHODS}
    return RowLength(seq_len, inside / len(ordered), int(ordered[:inside].sum(dtype=np.int64)) / max(1, whole), packed)


def _packed(stores: Mapping[str, TokenStore], method: Method, seq_len: int) -> Packed:
    packing = Packing(method, too_long="split")
    reports = [make_plan(packing, store.lengths, seq_len).report for store in stores.values()]
    rows = sum(report.num_rows for report in reports)
    tokens = sum(report.num_tokens for report in reports)
    return Packed(
        rows=rows,
        utilisation=tokens / max(1, rows * seq_len),
        split=sum(report.num_split for report in reports),
        left_out=sum(report.num_left_out for report in reports),
    )


def _advice(lengths: Sequence[RowLength], longest: int) -> str:
    if not lengths:
        return ""
    good = [one for one in lengths if one.fits >= _FITTING]
    chosen = good[0] if good else lengths[-1]
    fit = chosen.packed["best_fit"]
    text = (
        f"seq_len={chosen.seq_len}: {_percent(chosen.fits)} of the documents fit whole, and best_fit fills "
        f"{_percent(fit.utilisation)} of {fit.rows:,} rows an epoch"
    )
    shorter = [one for one in lengths if one.seq_len < chosen.seq_len]
    if shorter:
        text += f"; with {shorter[-1].seq_len} only {_percent(shorter[-1].fits)} fit"
    if longest > chosen.seq_len:
        text += f". The longest has {longest:,} tokens: say `too_long` (`split` for pre-training, `leave_out` else)"
    return text + "."


def _percent(share: float) -> str:
    """Rounded down: what is not all is not 100 %."""
    return f"{int(share * 10_000) / 100:.6g} %"


def _source_tokens(store: TokenStore) -> SourceTokens:
    names: Counter[str] = Counter()
    for docs in store.docs:
        column = docs.column("source")
        known = column.dictionary.to_pylist()
        numbers = column.indices.to_numpy(zero_copy_only=False)
        tokens = np.bincount(numbers, weights=docs.column("length").to_numpy(), minlength=len(known))
        names.update({name: int(count) for name, count in zip(known, tokens, strict=True)})
    return SourceTokens(
        documents=store.num_documents,
        tokens=store.num_tokens,
        learnt=store.num_learnt,
        rejected=store.num_rejected,
        size_bytes=sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file()),
        roles=_roles(store),
        named=dict(names) if len(names) > 1 else {},
    )


def _roles(store: TokenStore) -> dict[str, int]:
    sums = np.zeros(len(store.layout.roles), dtype=np.int64)
    for docs in store.docs:
        spans = docs.column("roles").flatten()
        if len(spans):
            number, start, stop = (spans.field(column).to_numpy(zero_copy_only=False) for column in range(3))
            counts = np.bincount(number, weights=stop.astype(np.int64) - start, minlength=len(sums))
            sums += counts.astype(np.int64)[: len(sums)]
    return {role: int(count) for role, count in zip(store.layout.roles, sums, strict=True) if count}


def _quantiles(ordered: npt.NDArray[np.int32]) -> dict[str, int]:
    last = len(ordered) - 1
    places = {"min": 0, "p50": last // 2, "p90": int(last * 0.9), "p99": int(last * 0.99), "max": last}
    return {name: int(ordered[place]) for name, place in places.items()}


def _histogram(ordered: npt.NDArray[np.int32]) -> list[Bin]:
    """Bins of equal width up to the 99.5th percentile, and one for what is longer; each length stands in one bin."""
    most = int(ordered[min(len(ordered) - 1, int(len(ordered) * 0.995))])
    low = int(ordered[0])
    width = max(1, -(-(most - low + 1) // _NUM_BINS))
    edges = [*range(low, most + 1, width)]
    edges.append(edges[-1] + width)
    if int(ordered[-1]) >= edges[-1]:
        edges.append(int(ordered[-1]) + 1)
    places = np.searchsorted(ordered, edges)
    sums = np.concatenate(([0], np.cumsum(ordered, dtype=np.int64)))
    return [
        Bin(edges[number], edges[number + 1] - 1, int(stop - start), int(sums[stop] - sums[start]))
        for number, (start, stop) in enumerate(zip(places[:-1].tolist(), places[1:].tolist(), strict=True))
    ]


def _longest(stores: Mapping[str, TokenStore], count: int) -> list[LongDocument]:
    found = []
    for name, store in stores.items():
        lengths = store.lengths
        numbers = np.argsort(-lengths, kind="stable")[:count].tolist()
        for number, row_id in zip(numbers, store.row_ids(numbers), strict=True):
            found.append(LongDocument(name, number, row_id, int(lengths[number])))
    return sorted(found, key=lambda one: (-one.tokens, one.source, one.document))[:count]
