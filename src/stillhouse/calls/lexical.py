"""An inverted index on disk: for each word the texts that hold it, with its weight there.

`words.u64` holds the sorted hashes of the words, `begins.i64` where each one's postings begin, `texts.u32` and
`weights.f32` the postings. They are mapped, so that a search reads what it needs and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stillhouse.text.ngrams import words

from .bm25 import Bm25
from .nearest import DIGITS, Found

_POSTINGS = 1 << 22  # placed together
Doubles: TypeAlias = NDArray[np.float64]


class LexicalWriter:
    """Takes texts one after the other and writes their index; memory is that of the distinct words."""

    def __init__(self, folder: Path, by: Bm25) -> None:
        self._folder = folder
        self._by = by
        self._known: dict[str, int] = {}
        self._frequencies: list[int] = []
        self._lengths: list[int] = []
        self._distinct: list[int] = []
        self._terms = open(folder / "terms.part", "w+b")  # noqa: SIM115 - written until `close`
        self._counts = open(folder / "counts.part", "w+b")  # noqa: SIM115

    def add(self, texts: Iterable[str]) -> None:
        """The next texts."""
        terms: list[int] = []
        counts: list[int] = []
        for text in texts:
            found = Counter(words(text))
            self._lengths.append(found.total())
            self._distinct.append(len(found))
            for word, count in found.items():
                term = self._known.setdefault(word, len(self._frequencies))
                if term == len(self._frequencies):
                    self._frequencies.append(0)
                self._frequencies[term] += 1
                terms.append(term)
                counts.append(count)
        self._terms.write(np.array(terms, np.uint32).tobytes())
        self._counts.write(np.array(counts, np.uint32).tobytes())

    def close(self) -> None:
        """Write the index."""
        hashes = np.array([_hash(word) for word in self._known], np.uint64)
        order = np.argsort(hashes)
        frequencies = np.array(self._frequencies, np.int64)
        begins = np.concatenate([[0], np.cumsum(frequencies[order])]).astype(np.int64)
        hashes[order].tofile(self._folder / "words.u64")
        begins.tofile(self._folder / "begins.i64")
        cursor = np.empty(len(order), np.int64)
        cursor[order] = begins[:-1]
        self._place(cursor, frequencies, int(begins[-1]))
        for part in (self._terms, self._counts):
            part.close()
            Path(part.name).unlink()

    def _place(self, cursor: NDArray[np.int64], frequencies: NDArray[np.int64], total: int) -> None:
        """Each posting to its word's, in the order of the texts."""
        number = len(self._lengths)
        idf = np.log1p((number - frequencies + 0.5) / (frequencies + 0.5))
        mean = (sum(self._lengths) / number if number else 0.0) or 1.0
        held_back = self._by.k1 * (1 - self._by.b + self._by.b * np.array(self._lengths) / mean)
        owners = np.repeat(np.arange(number, dtype=np.uint32), self._distinct)
        texts, weights = (
            _made(self._folder / "texts.u32", "<u4", total),
            _made(self._folder / "weights.f32", "<f4", total),
        )
        for part in (self._terms, self._counts):
            part.flush()
            part.seek(0)
        for start in range(0, total, _POSTINGS):
            terms = np.frombuffer(self._terms.read(4 * _POSTINGS), np.uint32)
            counts = np.frombuffer(self._counts.read(4 * _POSTINGS), np.uint32).astype(np.float64)
            own = owners[start : start + len(terms)]
            weight = idf[terms] * counts / (counts + held_back[own])
            order = np.argsort(terms, kind="stable")
            distinct, first, times = np.unique(terms[order], return_index=True, return_counts=True)
            rank = np.arange(len(terms)) - np.repeat(first, times)
            places = cursor[terms[order]] + rank
            texts[places], weights[places] = own[order], weight[order]
            cursor[distinct] += times
        del texts, weights


class LexicalIndex:
    """An index that was written, ready to be searched."""

    def __init__(self, folder: Path, num_texts: int) -> None:
        self._num_texts = num_texts
        self._words = _mapped(folder / "words.u64", "<u8")
        self._begins = _mapped(folder / "begins.i64", "<i8")
        self._texts = _mapped(folder / "texts.u32", "<u4")
        self._weights = _mapped(folder / "weights.f32", "<f4")
        self._scores = np.zeros(num_texts)

    def search(self, queries: Sequence[str], k: int) -> Found:
        """The best `k` of each query among the texts that share a word with it; a place of -1 is none."""
        k = min(k, self._num_texts)
        places = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf)
        for row, query in enumerate(queries):
            candidates, own = self._scored(query)
            order = np.lexsort((candidates, -own))[:k] if len(own) <= 4 * k else _first(candidates, own, k)
            places[row, : len(order)], scores[row, : len(order)] = candidates[order], own[order]
        return Found(places, scores)

    def _scored(self, query: str) -> tuple[NDArray[np.int64], Doubles]:
        total, touched = self._scores, []
        # In order of hash, so that equal scores come from equal sums.
        for term, times in sorted((_hash(word), times) for word, times in Counter(words(query)).items()):
            place = int(np.searchsorted(self._words, np.uint64(term)))
            if place == len(self._words) or int(self._words[place]) != term:
                continue
            own = slice(int(self._begins[place]), int(self._begins[place + 1]))
            texts = self._texts[own]
            total[texts] += times * self._weights[own].astype(np.float64)
            touched.append(texts)
        candidates = np.unique(np.concatenate(touched)).astype(np.int64) if touched else np.empty(0, np.int64)
        scores = np.round(total[candidates], DIGITS)
        total[candidates] = 0.0
        return candidates, scores


def _first(candidates: NDArray[np.int64], scores: Doubles, k: int) -> NDArray[np.int64]:
    """The places of the best `k`, without sorting the others."""
    bound = np.partition(scores, len(scores) - k)[len(scores) - k]
    near = np.flatnonzero(scores >= bound)
    order: NDArray[np.int64] = near[np.lexsort((candidates[near], -scores[near]))[:k]]
    return order


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _made(path: Path, kind: str, length: int) -> NDArray[Any]:
    if length == 0:
        path.touch()
        return np.empty(0, kind)
    return np.memmap(path, kind, "w+", shape=(length,))


def _mapped(path: Path, kind: str) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
