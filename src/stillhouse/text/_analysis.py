"""The work behind `analysis`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import islice, pairwise
from math import log2, log10
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import RecipeError
from ._train_tokenizer import train
from .analysis import SizeAdvice, SizeTried, SourceTokens, TokenAnalysis
from .encoder import TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHARES = (50, 90, 99, 100)
_TOGETHER = 256
"""Texts that are encoded at once."""


def analysed(tokenizer: PreTrainedTokenizerBase, sources: Mapping[str, Iterable[str]], longest: int) -> TokenAnalysis:
    encoder = TextEncoder(tokenizer)
    size = 1 + max(tokenizer.get_vocab().values())
    occurs = np.zeros(size, np.int64)
    found: dict[str, SourceTokens] = {}
    for name, texts in sources.items():
        num_texts = num_bytes = words = tokens = 0
        for some in _pieces(texts):
            for text, ids in zip(some, encoder.encode(some), strict=True):
                occurs += np.bincount(ids, minlength=size) if len(ids) > size else 0
                if len(ids) <= size:
                    np.add.at(occurs, ids, 1)
                num_texts += 1
                num_bytes += len(text.encode())
                words += len(text.split())
                tokens += len(ids)
        found[name] = SourceTokens(num_texts, num_bytes, words, tokens)
    used = np.flatnonzero(occurs)
    counts = np.sort(occurs[used])[::-1]
    whole = np.cumsum(counts)
    total = int(whole[-1]) if len(whole) else 0
    coverage = {share: int(np.searchsorted(whole, total * share / 100)) + 1 if total else 0 for share in _SHARES}
    texts_of = {
        int(token): tokenizer.backend_tokenizer.decode([int(token)], skip_special_tokens=False) for token in used
    }
    ranked = sorted(texts_of, key=lambda token: (-len(texts_of[token]), texts_of[token]))[:longest]
    return TokenAnalysis(
        len(tokenizer.get_vocab()),
        found,
        tuple(counts.tolist()),
        coverage,
        tuple((texts_of[token], int(occurs[token])) for token in ranked),
    )


def _pieces(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while some := list(islice(rest, _TOGETHER)):
        yield some


def advised(texts: Sequence[str], width: int, sizes: Sequence[int], gain: float) -> SizeAdvice:
    unseen = [text for number, text in enumerate(texts) if number % 10 == 9 and text]
    if not unseen:
        raise RecipeError("there are too few texts to try sizes of a vocabulary", "Give ten or more.")
    learnt = [text for number, text in enumerate(texts) if number % 10 != 9]
    num_bytes = sum(len(text.encode()) for text in unseen)
    tried: list[SizeTried] = []
    for size in sorted(sizes):
        tokenizer = train(learnt, size)
        found = tokenizer.get_vocab_size()
        if tried and found <= tried[-1].size:
            break  # no pair is left that occurs twice
        tokens = sum(len(done.ids) for done in tokenizer.encode_batch_fast(unseen, add_special_tokens=False))
        tried.append(SizeTried(found, num_bytes / tokens, found * width))
    best = tried[0]
    for before, after in pairwise(tried):
        shorter = 1 - before.bytes_per_token / after.bytes_per_token
        if shorter < gain * log2(after.size / before.size):
            break
        best = after
    return SizeAdvice(tuple(tried), best.size, gain)


def analysis_table(found: TokenAnalysis) -> str:
    lines = [f"{'source':<20}{'texts':>10}{'tokens':>14}{'bytes/token':>13}{'tokens/word':>13}"]
    for name, source in found.sources.items():
        lines.append(
            f"{name[:19]:<20}{source.texts:>10,}{source.tokens:>14,}"
            f"{source.bytes_per_token:>13.2f}{source.tokens_per_word:>13.2f}"
        )
    covered = ", ".join(f"{share} % by {entries:,}" for share, entries in found.coverage.items())
    lines.append(f"of {found.vocabulary:,} entries {found.unused:,} do not occur; tokens are covered: {covered}")
    if found.longest:
        lines.append("longest: " + ", ".join(f"{text!r} × {count:,}" for text, count in found.longest))
    return "\n".join(lines)


def advice_table(found: SizeAdvice) -> str:
    lines = [f"{'vocabulary':>10}{'bytes/token':>13}{'embedding parameters':>22}"]
    for size in found.tried:
        mark = "  ← advised" if size.size == found.advised else ""
        lines.append(f"{size.size:>10,}{size.bytes_per_token:>13.2f}{size.embedding_parameters:>22,}{mark}")
    return "\n".join([*lines, f"A doubling beyond it shortens texts by less than {found.gain:.0%}."])


_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 320, 56, 48
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.head{font-size:17px;font-weight:600}.dim{fill:#6b7280}"
    ".line{fill:none;stroke:#2563eb;stroke-width:2}.axis{stroke:#9ca3af}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.dim{fill:#9ca3af}}"
)


def coverage_picture(found: TokenAnalysis) -> str:
    whole = np.cumsum(found.counts) if found.counts else np.zeros(1)
    right, bottom = _WIDTH - 24, _HEIGHT - 44
    span = log10(max(2, found.vocabulary))

    def place(entries: float, share: float) -> tuple[float, float]:
        return _LEFT + (right - _LEFT) * log10(max(1.0, entries)) / span, bottom - (bottom - _TOP) * share

    picked = np.unique(np.geomspace(1, len(whole), 120).astype(int)) - 1
    points = [place(float(number + 1), float(whole[number] / max(1, whole[-1]))) for number in picked]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Coverage of tokens</title><style>{_STYLE}</style>",
        f'<text class="head" x="16" y="28">{escape(f"{found.vocabulary:,} entries, {found.unused:,} unused")}</text>',
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none"/>',
        f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>',
    ]
    for share in (0, 50, 90, 100):
        x, y = place(1, share / 100)
        parts.append(f'<text class="dim" x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{share} %</text>')
    for power in range(int(span) + 1):
        x, y = place(10**power, 0)
        parts.append(f'<text class="dim" x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle">{10**power:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
