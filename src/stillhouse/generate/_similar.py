"""Near-duplicates among texts that come one after the other, without comparing each with all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ..text.ngrams import ngrams, words


class Likeness(NamedTuple):
    """An earlier text, by its number, and the Jaccard index of the word n-grams of both."""

    number: int
    score: float


class SimilarTexts:
    """Texts seen so far; finds the most similar one exactly, among those that reach `threshold`.

    Prefix filtering (Bayardo et al. 2007): two sets of Jaccard index t or more share one of the first n - ceil(t n) + 1
    elements of each, under any one order of all elements. So only these are indexed and looked up. The order puts rare
    n-grams first, as counted when the number of texts last doubled. Case and punctuation do not count, symbols do.
    """

    def __init__(self, threshold: float, size: int = 3) -> None:
        self._threshold = threshold
        self._size = size
        self._sets: list[frozenset[str]] = []
        self._exact: dict[str, int] = {}
        self._holders: dict[str, list[int]] = {}
        self._counts: Counter[str] = Counter()
        self._order: Mapping[str, int] = {}
        self._reorder_at = 256

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, text: str) -> None:
        """The next text: later ones are compared with it."""
        number = len(self._sets)
        grams = self._grams(text)
        self._exact.setdefault(wording(text), number)
        self._sets.append(grams)
        self._counts.update(grams)
        self._index(number)
        if len(self._sets) == self._reorder_at:
            self._reorder_at *= 2
            self._order = dict(self._counts)
            self._holders.clear()
            for earlier in range(len(self._sets)):
                self._index(earlier)

    def equal(self, text: str) -> int | None:
        """The first text with the same words."""
        return self._exact.get(wording(text))

    def nearest(self, text: str) -> Likeness | None:
        """The most similar text that reaches the threshold, of equally similar ones the first."""
        grams = self._grams(text)
        candidates = {number for gram in self._prefix(grams) for number in self._holders.get(gram, ())}
        best: Likeness | None = None
        for number in sorted(candidates):
            score = _jaccard(grams, self._sets[number])
            if score >= self._threshold and (best is None or score > best.score):
                best = Likeness(number, score)
        return best

    def _grams(self, text: str) -> frozenset[str]:
        return frozenset(ngrams(text, self._size) or {text.strip()})

    def _index(self, number: int) -> None:
        for gram in self._prefix(self._sets[number]):
            self._holders.setdefault(gram, []).append(number)

    def _prefix(self, grams: frozenset[str]) -> list[str]:
        length = len(grams) - math.ceil(self._threshold * len(grams) - 1e-9) + 1
        return sorted(grams, key=lambda gram: (self._order.get(gram, 0), gram))[:length]


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def wording(text: str) -> str:
    """What two texts have in common that count as equal: their words, or themselves where they have none."""
    return " ".join(words(text)) or text.strip()
