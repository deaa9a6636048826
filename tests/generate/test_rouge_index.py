"""The index over texts finds what comparing with each would find."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.generate._rouge_index import RougeIndex
from stillhouse.text.ngrams import words
from stillhouse.text.rouge import rouge_l

TEXT = st.lists(st.sampled_from(words("write a the poem list about of tea ice cold hot three story")), max_size=14)


_words = functools.cache(words)


def slowly(texts: list[str], new: str, threshold: float) -> tuple[int, float] | None:
    best = None
    for number, text in enumerate(texts):
        score = rouge_l(_words(text), _words(new))
        if score >= threshold and (best is None or score > best[1]):
            best = (number, score)
    return best


@given(texts=st.lists(TEXT, max_size=40), new=TEXT, threshold=st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]))
def test_it_finds_what_comparing_with_all_finds(texts: list[list[str]], new: list[str], threshold: float) -> None:
    index = RougeIndex(threshold)
    joined = [" ".join(text) for text in texts]
    for text in joined:
        index.add(text)
    found = index.nearest(" ".join(new))
    assert (None if found is None else tuple(found)) == slowly(joined, " ".join(new), threshold)


@pytest.mark.parametrize("threshold", [0.7, 0.85])
def test_it_stays_exact_beyond_the_reordering_and_compares_few(threshold: float) -> None:
    rng = random.Random(3)
    vocabulary = [f"w{n}" for n in range(400)]
    weights = [1 / (n + 1) for n in range(400)]
    texts: list[str] = []
    index = RougeIndex(threshold)
    for _ in range(700):
        if texts and rng.random() < 0.3:  # a variant of an earlier one
            found = rng.choice(texts).split()
            found[rng.randrange(len(found))] = rng.choice(vocabulary)
            text = " ".join(found)
        else:
            text = " ".join(rng.choices(vocabulary, weights, k=rng.randrange(4, 20)))
        near = index.nearest(text)
        assert (None if near is None else tuple(near)) == slowly(texts, text, threshold)
        texts.append(text)
        index.add(text)
    assert index.num_compared < 0.2 * 700 * 699 / 2
