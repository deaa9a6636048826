"""Texts that come one after the other, each held against all before by ROUGE-L, without comparing each with all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from ..text.ngrams import words
from ..text.rouge import Subsequences
from ._similar import Likeness


class RougeIndex:
    """Finds the earlier text that is most like a new one, exactly, among those that reach `threshold`.

    Prefix filtering (Bayardo et al. 2007), as for sets: a common subsequence is no longer than what the two texts have
    in common as multisets. For texts of m and n words with 2 L / (m + n) of at least t, L is at least t (m + n) / 2 and
    n at least t m / (2 - t), as L is at most n. So the two share one of the first m - a + 1 words of one of them, a
    being the least that L can be, under any one order of all words; the order puts rare words first, as counted when
    the number of texts last doubled. Only these are indexed and looked up; what is found is compared in full.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._texts: list[list[str]] = []
        self._holders: dict[tuple[str, int], list[int]] = {}
        self._counts: Counter[tuple[str, int]] = Counter()
        self._order: Mapping[tuple[str, int], int] = {}
        self._reorder_at = 256
        self.num_compared = 0
        """Pairs of texts that were compared in full."""

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """The next text: later ones are compared with it."""
        number, found = len(self._texts), words(text)
        self._texts.append(found)
        self._counts.update(_elements(found))
        self._index(number)
        if len(self._texts) == self._reorder_at:
            self._reorder_at *= 2
            self._order = dict(self._counts)
            self._holders.clear()
            for earlier in range(len(self._texts)):
                self._index(earlier)

    def nearest(self, text: str) -> Likeness | None:
        """The most similar text that reaches the threshold, of equally similar ones the first."""
        found = words(text)
        held = Subsequences(found)
        candidates = {number for element in self._prefix(found) for number in self._holders.get(element, ())}
        best: Likeness | None = None
        for number in sorted(candidates):
            other = self._texts[number]
            size = len(found) + len(other)
            if 2 * min(len(found), len(other)) < self._threshold * size - 1e-9:
                continue
            self.num_compared += 1
            score = 2 * held.longest(other) / size
            if score >= self._threshold and (best is None or score > best.score):
                best = Likeness(number, score)
        return best

    def _index(self, number: int) -> None:
        for element in self._prefix(self._texts[number]):
            self._holders.setdefault(element, []).append(number)

    def _prefix(self, found: Sequence[str]) -> list[tuple[str, int]]:
        size, share = len(found), self._threshold
        shortest = math.ceil(share * size / (2 - share) - 1e-9)
        least = math.ceil(share * (size + shortest) / 2 - 1e-9)
        ordered = sorted(_elements(found), key=lambda element: (self._order.get(element, 0), element))
        return ordered[: size - least + 1]


def _elements(found: Sequence[str]) -> list[tuple[str, int]]:
    """The words as a set: the second `the` is another element than the first."""
    seen: Counter[str] = Counter()
    elements = []
    for word in found:
        elements.append((word, seen[word]))
        seen[word] += 1
    return elements
