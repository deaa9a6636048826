"""ROUGE-L against the textbook's table, and against scores worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.rouge import Subsequences, rouge_l

WORDS = st.lists(st.sampled_from("abcdef"), max_size=90)


def table(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence by dynamic programming."""
    rows = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            rows[i + 1][j + 1] = rows[i][j] + 1 if one == other else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


@given(left=WORDS, right=WORDS)
def test_the_longest_subsequence_is_that_of_the_table(left: list[str], right: list[str]) -> None:
    assert Subsequences(left).longest(right) == table(left, right)


@given(left=WORDS, right=WORDS)
def test_rouge_l_is_symmetric_and_one_for_equal_texts_alone(left: list[str], right: list[str]) -> None:
    score = rouge_l(left, right)
    assert score == rouge_l(right, left)
    assert 0 <= score <= 1
    assert (score == 1) == (left == right and left != [])


@pytest.mark.parametrize(
    ("left", "right", "score"),
    [
        ("the cat sat on the mat", "the cat sat on the mat", 1.0),
        # Lin 2004, section 3: "police killed the gunman" and "police kill the gunman" have 3 of 4 in common,
        # "the gunman kill police" 2 of 4.
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("police killed the gunman", "the gunman kill police", 2 / 4),
        ("one two three four", "five", 0.0),
        ("one two three four five six", "two four", 4 / 8),
        ("", "", 0.0),
    ],
)
def test_scores_worked_out_by_hand(left: str, right: str, score: float) -> None:
    assert rouge_l(left.split(), right.split()) == pytest.approx(score)
