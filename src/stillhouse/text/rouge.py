"""ROUGE-L: how much of two texts is the same in the same order."""

from __future__ import annotations

from collections.abc import Sequence


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two lists of words (Lin 2004): 2 L / (m + n); 0 where one is empty."""
    if not left or not right:
        return 0.0
    return 2 * Subsequences(left).longest(right) / (len(left) + len(right))


class Subsequences:
    """One list of words, to be held against many.

    Bit-parallel (Hyyrö 2004): bit i of a word's mask says that it stands at place i, so each word of the other list
    costs a few operations on whole numbers of m bits.
    """

    __slots__ = ("_masks", "_size")

    def __init__(self, words: Sequence[str]) -> None:
        self._masks: dict[str, int] = {}
        self._size = len(words)
        for place, word in enumerate(words):
            self._masks[word] = self._masks.get(word, 0) | (1 << place)

    def longest(self, words: Sequence[str]) -> int:
        """The length of the longest common subsequence."""
        every = (1 << self._size) - 1
        row = every
        masks = self._masks
        for word in words:
            mask = masks.get(word)
            if mask is not None:
                met = row & mask
                row = ((row + met) | (row - met)) & every
        return self._size - row.bit_count()
