"""Exact search and the lexical index, held against the plainest computation in float64."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls import nearest as nearest_module
from stillhouse.calls.bm25 import Bm25
from stillhouse.calls.lexical import LexicalIndex, LexicalWriter
from stillhouse.calls.nearest import DIGITS, Found, VectorFile, nearest, unit
from stillhouse.core.errors import StoreError
from stillhouse.text.ngrams import words


def written(folder: Path, rows: Any) -> VectorFile:
    path = folder / "vectors.f32"
    np.asarray(rows, "<f4").tofile(path)
    return VectorFile(path, np.asarray(rows).shape[1])


def naive(queries: Any, rows: Any, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """All cosines in float64, sorted by score and place."""
    places, scores = [], []
    for query in np.asarray(queries, np.float64):
        own = [round(float(query @ row), DIGITS) + 0.0 for row in np.asarray(rows, np.float64)]
        order = sorted(range(len(own)), key=lambda place: (-own[place], place))[:k]
        places.append(order)
        scores.append([own[place] for place in order])
    return places, scores


def check(found: Found, expected: tuple[list[list[int]], list[list[float]]]) -> None:
    np.testing.assert_allclose(found.scores, expected[1], atol=2e-7)
    # Two scores that round differently on either side of half a digit may change places; equal ones may not.
    for own, other, scores in zip(found.places.tolist(), expected[0], expected[1], strict=True):
        if own != other:
            differ = [place for place in range(len(own)) if own[place] != other[place]]
            assert max(scores[place] for place in differ) - min(scores[place] for place in differ) <= 2e-7


@pytest.mark.parametrize(("size", "dimensions", "k"), [(1, 3, 5), (40, 3, 5), (5000, 33, 10), (3000, 8, 100)])
@pytest.mark.parametrize("products", [1 << 10, 1 << 22])
def test_the_nearest_are_those_of_all_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, dimensions: int, k: int, products: int
) -> None:
    monkeypatch.setattr(nearest_module, "_PRODUCTS", products)
    monkeypatch.setattr(nearest_module, "_BLOCK_BYTES", products * 64)
    draws = np.random.default_rng(size)
    rows, queries = unit(draws.normal(size=(size, dimensions))), unit(draws.normal(size=(70, dimensions)))
    found = nearest(queries, written(tmp_path, rows), k)
    assert found.places.shape == (70, min(k, size))
    check(found, naive(queries, rows, k))


def test_of_equal_vectors_those_that_stand_first_are_found(tmp_path: Path) -> None:
    """Thousands of equal vectors, many more than are kept as candidates."""
    draws = np.random.default_rng(0)
    few = unit(draws.normal(size=(3, 16)))
    owners = draws.integers(0, 3, 9000)
    found = nearest(few, written(tmp_path, few[owners]), 7)
    for query in range(3):
        assert found.places[query].tolist() == np.flatnonzero(owners == query)[:7].tolist()
        np.testing.assert_allclose(found.scores[query], 1.0, atol=2e-7)


def test_the_result_does_not_depend_on_how_many_ask_at_once(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    vectors = written(tmp_path, unit(draws.normal(size=(4000, 24))))
    queries = np.asarray(draws.normal(size=(50, 24)), np.float32)
    whole = nearest(queries, vectors, 5)
    for place in range(0, 50, 7):
        alone = nearest(queries[place : place + 1], vectors, 5)
        assert alone.places[0].tolist() == whole.places[place].tolist()
        assert alone.scores[0].tolist() == whole.scores[place].tolist()


def test_queries_of_zeros_and_of_any_length(tmp_path: Path) -> None:
    vectors = written(tmp_path, np.eye(4, dtype=np.float32))
    found = nearest(np.array([[0, 0, 0, 0], [0, 9, 0, 0]], np.float32), vectors, 2)
    assert found.places[0].tolist() == [0, 1]
    assert found.scores.tolist() == [[0, 0], [1, 0]]
    assert nearest(np.empty((0, 4), np.float32), vectors, 2).places.shape == (0, 2)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "vectors.f32").write_bytes(b"12345")
    with pytest.raises(StoreError, match="5 bytes, which are no vectors of 4 numbers"):
        VectorFile(tmp_path / "vectors.f32", 4)


# words in common


def indexed(folder: Path, texts: list[str], by: Bm25 | None = None) -> LexicalIndex:
    writer = LexicalWriter(folder, by or Bm25())
    half = len(texts) // 2
    writer.add(texts[:half])
    writer.add(texts[half:])
    writer.close()
    return LexicalIndex(folder, len(texts))


def naive_bm25(texts: list[str], query: str, by: Bm25) -> list[float]:
    """The formula as it stands in the docstring."""
    split = [words(text) for text in texts]
    mean = sum(map(len, split)) / len(split) or 1.0
    scores = []
    for text in split:
        score = 0.0
        for word in words(query):
            holders = sum(word in other for other in split)
            tf = text.count(word)
            idf = math.log(1 + (len(split) - holders + 0.5) / (holders + 0.5))
            if tf:
                score += idf * tf / (tf + by.k1 * (1 - by.b + by.b * len(text) / mean))
        scores.append(score)
    return scores


TEXTS = st.lists(
    st.lists(st.sampled_from(["red", "green", "blue", "cat", "dog", "!"]), max_size=8).map(" ".join), max_size=12
)


@given(TEXTS.filter(bool), TEXTS, st.integers(1, 5), st.sampled_from([Bm25(), Bm25(k1=0.5, b=0.0), Bm25(k1=0, b=1)]))
def test_bm25_is_the_formula(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], queries: list[str], k: int, by: Bm25
) -> None:
    index = indexed(tmp_path_factory.mktemp("index"), texts, by)
    found = index.search(queries, k)
    for query, places, scores in zip(queries, found.places.tolist(), found.scores.tolist(), strict=True):
        expected = naive_bm25(texts, query, by)
        best = sorted((score for score in expected if score > 0), reverse=True)[:k]
        taken = [place for place in places if place >= 0]
        np.testing.assert_allclose([score for score in scores if score > -math.inf], best, rtol=1e-5, atol=2e-7)
        np.testing.assert_allclose([expected[place] for place in taken], best, rtol=1e-5, atol=2e-7)


def test_of_equal_scores_the_text_that_stands_first_is_first(tmp_path: Path) -> None:
    texts = ["cat", "dog"] * 300
    found = indexed(tmp_path, texts).search(["dog", "dog cat", "bird", ""], 4)
    assert found.places.tolist() == [[1, 3, 5, 7], [0, 1, 2, 3], [-1] * 4, [-1] * 4]


def test_many_texts_are_placed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillhouse.calls import lexical

    rng = random.Random(0)
    texts = [" ".join(rng.choices([f"w{n}" for n in range(50)], k=12)) for _ in range(200)]
    (tmp_path / "whole").mkdir()
    (tmp_path / "pieces").mkdir()
    indexed(tmp_path / "whole", texts)
    monkeypatch.setattr(lexical, "_POSTINGS", 37)
    indexed(tmp_path / "pieces", texts)
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "pieces" / path.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "pieces").iterdir()) == [
        "begins.i64", "texts.u32", "weights.f32", "words.u64",
    ]  # fmt: skip
