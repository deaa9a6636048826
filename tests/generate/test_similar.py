"""Near-duplicates: the index finds what a comparison of all with all finds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.generate._similar import SimilarTexts
from stillhouse.text.ngrams import ngrams

sentences = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=9).map(" ".join)


@given(texts=st.lists(sentences, max_size=15), new=sentences, threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_index_finds_what_comparing_with_all_finds(texts: list[str], new: str, threshold: float) -> None:
    index = SimilarTexts(threshold)
    for text in texts:
        index.add(text)
    scores = [jaccard(text, new) for text in texts]
    best = max(scores, default=0.0)
    found = index.nearest(new)
    if best < threshold:
        assert found is None
    else:
        assert found is not None
        assert (found.number, found.score) == (scores.index(best), best)


def test_texts_that_differ_in_a_symbol_are_not_equal() -> None:
    index = SimilarTexts(0.8)
    for text in ("12 + 7", "$5", "C++ dev", "all good 😀", "-5 degrees"):
        index.add(text)
    for text in ("12 - 7", "€5", "C dev", "all good 😡", "5 degrees"):
        assert (index.equal(text), index.nearest(text)) == (None, None)
    assert index.equal("c++, DEV!") == 2


def test_many_texts_are_found_again_after_the_index_was_put_in_a_new_order() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["a", "b", "c", "d"], k=rng.randrange(1, 12))) for _ in range(700)]
    index = SimilarTexts(0.6)
    for number, text in enumerate(texts):
        scores = [jaccard(earlier, text) for earlier in texts[:number]]
        best = max(scores, default=0.0)
        found = index.nearest(text)
        assert (found and found.score) == (best if best >= 0.6 else None)
        index.add(text)


def jaccard(one: str, two: str) -> float:
    left, right = ngrams(one, 3) or {""}, ngrams(two, 3) or {""}
    return len(left & right) / len(left | right)


def test_case_punctuation_and_spacing_make_no_new_text() -> None:
    index = SimilarTexts(0.8)
    index.add("Two lattes, please!")
    assert index.equal("two  LATTES please") == 0
    assert index.equal("three lattes please") is None


def test_texts_without_words_are_told_apart() -> None:
    index = SimilarTexts(0.8)
    index.add("!!!")
    assert index.equal(" !!! ") == 0
    assert index.equal("???") is None
    assert index.nearest("???") is None
