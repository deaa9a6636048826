"""Word n-grams: what near-duplicate search, decontamination and the share of unseen wordings count with."""

from __future__ import annotations

import functools
import re
import unicodedata

SIGNS = "#%*/"
"""Punctuation to Unicode that means something all the same: C#, 5 %, 3 * 4, 6 / 2. Each is a word, as a symbol is."""
_WORD = re.compile(r"\w+|-(?= ?\d)|[^\w\s-]")


def words(text: str) -> list[str]:
    """The words of `text`, case-folded; symbols (`+`, `€`, emoji), `SIGNS` and a minus before a digit are words too.

    Other punctuation and spacing do not count.
    """
    return [word for word in _WORD.findall(text.casefold()) if len(word) > 1 or _counts(word)]


@functools.lru_cache(maxsize=10_000)
def _counts(character: str) -> bool:
    if character.isalnum() or character in "_-" or character in SIGNS:
        return True
    return unicodedata.category(character).startswith("S")


def ngrams(text: str, size: int) -> set[str]:
    """The distinct runs of `size` words, joined by one space; a shorter text is one n-gram, an empty one none."""
    if size < 1:
        raise ValueError(f"`size` is {size}, expected at least 1")
    found = words(text)
    if len(found) <= size:
        return {" ".join(found)} if found else set()
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}
