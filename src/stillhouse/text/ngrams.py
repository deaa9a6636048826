"""Word n-grams: what near-duplicate search, decontamination and the share of unseen wordings count with."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+", re.UNICODE)


def words(text: str) -> list[str]:
    """The words of `text`, case-folded; punctuation and spacing do not count."""
    return _WORD.findall(text.casefold())


def ngrams(text: str, size: int) -> set[str]:
    """The distinct runs of `size` words, joined by one space; a shorter text is one n-gram, an empty one none."""
    if size < 1:
        raise ValueError(f"`size` is {size}, expected at least 1")
    found = words(text)
    if len(found) <= size:
        return {" ".join(found)} if found else set()
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}
