"""Vectors without a model: counted n-grams, thrown into a fixed number of places by their hash.

Texts of like wording get like vectors, in any language, with nothing to download. Meanings are not seen. A sparse
Johnson-Lindenstrauss projection (Kane and Nelson 2014) of the n-gram counts: each n-gram goes to four places with a
sign, which keeps products of vectors right but for a random error of about one over the root of the dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stillhouse.text.ngrams import words

SIZES = (3, 4, 5)
"""Characters of an n-gram; whole words count besides, twice."""
_PLACES = 4
_TOGETHER = 32_768  # characters
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_WORD_SALT = np.uint64(0x5851F42D4C957F2D)
_SALTS = np.arange(_PLACES, dtype=np.uint64) * _MULTIPLIER

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]


def hashed_vectors(texts: Sequence[str], dimensions: int) -> Floats:
    """One vector of length 1 for each text; one of zeros where a text has no words."""
    found = np.zeros((len(texts), dimensions), np.float32)
    begin, tokens, size = 0, [], 0
    for place, text in enumerate(texts):
        tokens.append(words(text))
        size += len(text)
        if size > _TOGETHER or place == len(texts) - 1:
            found[begin : place + 1] = _vectors(tokens, dimensions)
            begin, tokens, size = place + 1, [], 0
    return found


def _vectors(tokens: Sequence[Sequence[str]], dimensions: int) -> NDArray[np.float64]:
    """Vectors of some texts, all in one go: for short ones numpy's own calls would cost most."""
    texts, hashes = _grams([f" {' '.join(own)} " if own else "" for own in tokens])
    of_words = np.repeat(np.arange(len(tokens)), [len(own) for own in tokens])
    whole = np.array([crc32(token.encode("utf-8", "replace")) for own in tokens for token in own], np.uint64)
    total = np.zeros(len(tokens) * dimensions)
    for owners, drawn, share in ((texts, hashes, 1.0), (of_words, _mixed(whole + _WORD_SALT), 2.0)):
        owners, drawn, weights = _weighted(owners, drawn)
        for number in range(_PLACES):
            bits = _mixed(drawn + _SALTS[number])
            signed = np.where(bits & np.uint64(1), share * weights, -share * weights)
            places = ((bits >> np.uint64(1)) % np.uint64(dimensions)).astype(np.int64)
            total += np.bincount(owners * dimensions + places, signed, len(total))
    rows = total.reshape(len(tokens), dimensions)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return rows / np.where(lengths > 0, lengths, 1.0)[:, None]


def _weighted(owners: Integers, hashes: Hashes) -> tuple[Integers, Hashes, NDArray[np.float64]]:
    """The distinct hashes of each text, with one and the logarithm of how often they stand there."""
    apart = _mixed(hashes ^ _mixed(owners.astype(np.uint64) + _WORD_SALT))
    _, first, counts = np.unique(apart, return_index=True, return_counts=True)
    return owners[first], hashes[first], 1.0 + np.log(counts)


def _grams(lines: Sequence[str]) -> tuple[Integers, Hashes]:
    """The n-grams of all lines: whose they are, and their hashes."""
    characters = np.frombuffer("".join(lines).encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    owners = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    spread = _mixed(characters + _MULTIPLIER)
    found_owners, found_hashes = [], []
    for size in SIZES:
        number = max(len(spread) - size + 1, 0)
        gram = np.full(number, size, np.uint64)
        for offset in range(size if number else 0):
            gram = gram * _MULTIPLIER + spread[offset : offset + number]
        inside = owners[:number] == owners[len(owners) - number :]  # the others span two texts
        found_owners.append(owners[:number][inside])
        found_hashes.append(_mixed(gram[inside]))
    return np.concatenate(found_owners), np.concatenate(found_hashes)


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele et al. 2014): each bit of the result depends on all bits given."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
