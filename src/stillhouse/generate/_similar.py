"""Near-duplicates among texts that come one after the other, without comparing each with all."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..text.ngrams import ngrams, words


class Likeness(NamedTuple):
    """An earlier text, by its number, and the Jaccard index of the word n-grams of both."""

    number: int
    score: float


class SimilarTexts:
    """Texts seen so far; finds the most similar one exactly, among those that reach `threshold`.

    Prefix filtering (Bayardo et al. 2007): two sets of Jaccard index t or more share one of the first n - ceil(t n) + 1
    elements of each, under any one order of all elements. So only these are indexed and looked up. Case and
    punctuation do not count.
    """

    def __init__(self, threshold: float, size: int = 3) -> None:
        self._threshold = threshold
        self._size = size
        self._sets: list[frozenset[str]] = []
        self._holders: dict[str, list[int]] = {}
        self._exact: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, text: str) -> None:
        """The next text: later ones are compared with it."""
        number = len(self._sets)
        grams = self._grams(text)
        self._exact.setdefault(wording(text), number)
        self._sets.append(grams)
        for gram in self._prefix(grams):
            self._holders.setdefault(gram, []).append(number)

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

    def _prefix(self, grams: frozenset[str]) -> list[str]:
        # Long n-grams first: an order that is the same for all sets and puts the rarer ones in front.
        length = len(grams) - math.ceil(self._threshold * len(grams) - 1e-9) + 1
        return sorted(grams, key=_rarity)[:length]


def _rarity(gram: str) -> tuple[int, str]:
    return -len(gram), gram


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def wording(text: str) -> str:
    """What two texts have in common that count as equal: their words, or themselves where they have none."""
    return " ".join(words(text)) or text.strip()
