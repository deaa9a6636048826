"""Paired tests against naive sums, published numbers and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.measure.intervals import newcombe_paired
from stillhouse.measure.paired import compare_pairs, flips, holm, mcnemar, sign_flip, smallest_detectable


def naive_mcnemar(fixed: int, broken: int) -> Fraction:
    """Probability of every split of the flips that is at most as likely as the one seen."""
    flips_seen = fixed + broken
    chance = [Fraction(math.comb(flips_seen, count), 2**flips_seen) for count in range(flips_seen + 1)]
    return sum((p for p in chance if p <= chance[fixed]), Fraction(0))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_sum_over_all_splits(fixed: int, broken: int) -> None:
    assert mcnemar(fixed, broken) == pytest.approx(float(naive_mcnemar(fixed, broken)), rel=1e-12)


def test_mcnemar_gives_known_values() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 1) == pytest.approx(0.21875)
    assert mcnemar(6, 0) == pytest.approx(0.03125)
    # Agresti, Categorical Data Analysis, approval of the prime minister: 150 against 86 who changed their mind.
    assert mcnemar(150, 86) == pytest.approx(3.716e-05, rel=1e-3)


def test_mcnemar_goes_on_smoothly_past_the_size_where_integers_end() -> None:
    exact = 2 * sum(math.comb(1001, count) for count in range(471)) / 2**1001
    assert mcnemar(470, 531) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(50_000, 50_000) == pytest.approx(1.0)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), max_size=10))
def test_sign_flip_equals_trying_every_sign(differences: list[float]) -> None:
    moved = [value for value in differences if value]
    totals = [
        abs(sum(s * v for s, v in zip(signs, moved, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(moved))
    ]
    share = sum(total >= abs(sum(moved)) - 1e-9 for total in totals) / len(totals)
    assert sign_flip(differences) == pytest.approx(share)


def test_sign_flip_by_drawing_comes_near_the_normal_p() -> None:
    differences = np.random.default_rng(0).normal(0.15, 1, 200)
    z = differences.sum() / math.sqrt((differences**2).sum())
    assert sign_flip(differences) == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.01)


def test_pairs_count_flips_each_way_and_name_them() -> None:
    before = [1, 0, 0, 1, 0, 1, 0]
    after = [1, 1, 1, 0, 0, 1, 1]
    paired = compare_pairs(before, after)
    assert (paired.fixed, paired.broken, paired.both_right, paired.both_wrong) == (3, 1, 2, 1)
    assert paired.difference == pytest.approx(2 / 7)
    assert paired.p_value == pytest.approx(mcnemar(3, 1))
    assert paired.test == "exact McNemar"
    fixed, broken = flips(before, after)
    assert (fixed.tolist(), broken.tolist()) == ([1, 2, 6], [3])


def test_pairs_of_graded_scores_use_the_permutation_test() -> None:
    paired = compare_pairs([0.5, 0.2, 0.9], [0.7, 0.2, 1.0])
    assert paired.test == "sign-flip permutation"
    assert paired.p_value == pytest.approx(0.5)
    assert (paired.fixed, paired.broken, paired.both_wrong) == (2, 0, 1)


def test_systems_that_agree_on_few_items_may_differ_on_others() -> None:
    paired = compare_pairs([1, 0, 1], [1, 0, 1])
    assert paired.difference == 0
    assert paired.interval.low == pytest.approx(-paired.interval.high)
    assert 0.4 < paired.interval.high < 0.6
    assert paired.p_value == 1
    many = compare_pairs([1, 0] * 500, [1, 0] * 500)
    assert 0 < many.interval.high < 0.01


def test_the_interval_of_flips_holds_the_true_difference_as_often_as_it_says() -> None:
    """4,000 draws of 40 items with 20 % fixed and 5 % broken: between 93 and 99 % of intervals hold 15 points."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(40, [0.375, 0.05, 0.2, 0.375], 4000)
    intervals = [newcombe_paired(*(int(count) for count in counts)) for counts in drawn]
    assert 0.93 <= np.mean([low <= 0.15 <= high for low, high in intervals]) <= 0.99


def test_pairs_of_right_and_wrong_get_the_interval_of_paired_shares() -> None:
    paired = compare_pairs([1, 1, 0, 0, 0], [1, 0, 1, 1, 0])
    assert paired.interval == newcombe_paired(both=1, only_first=1, only_second=2, neither=1)


def test_pairs_of_nothing_are_undefined_and_unequal_lengths_are_refused() -> None:
    empty = compare_pairs([], [])
    assert empty.num_items == 0
    assert math.isnan(empty.difference)
    assert math.isnan(empty.p_value)
    with pytest.raises(ValueError, match="one value an item"):
        compare_pairs([1], [1, 0])


def test_paired_test_sees_a_gain_that_an_unpaired_one_misses() -> None:
    """500 items of shared difficulty and a true gain near 4 points: the exact test calls it at least twice as often."""
    generator = np.random.default_rng(0)
    paired_calls = unpaired_calls = 0
    for _ in range(200):
        difficulty = generator.normal(0, 1.5, 500)
        luck = generator.random(500)
        other_luck = np.where(generator.random(500) < 0.6, luck, generator.random(500))
        before = (luck < 1 / (1 + np.exp(-difficulty))).astype(float)
        after = (other_luck < 1 / (1 + np.exp(-difficulty - 0.25))).astype(float)
        paired_calls += mcnemar(int((after > before).sum()), int((after < before).sum())) < 0.05
        error = math.sqrt(before.var(ddof=1) / 500 + after.var(ddof=1) / 500)
        unpaired_calls += abs(after.mean() - before.mean()) / error > 1.96
    assert paired_calls > 2 * unpaired_calls > 0


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.05 / 20])
@pytest.mark.parametrize(("num_items", "flip_share"), [(20, 0.1), (40, 0.3), (60, 0.0), (400, 0.2), (2400, 0.1)])
def test_smallest_detectable_difference_is_found_four_times_of_five(
    num_items: int, flip_share: float, alpha: float
) -> None:
    gain = smallest_detectable(num_items, flip_share, alpha=alpha)
    share = max(flip_share, gain)
    generator = np.random.default_rng(0)
    odds = [(share + gain) / 2, (share - gain) / 2, 1 - share]
    drawn = generator.multinomial(num_items, odds, 4000)
    found = np.mean([mcnemar(int(up), int(down)) < alpha for up, down, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.025)  # four standard errors


def test_what_several_looks_can_find_is_larger() -> None:
    before, after = np.zeros(100), np.arange(100) % 10 == 0
    alone, one_of_ten = (compare_pairs(before, after, looks=looks) for looks in (1, 10))
    assert one_of_ten.smallest_detectable > alone.smallest_detectable
    assert one_of_ten._replace(smallest_detectable=0) == alone._replace(smallest_detectable=0)
    scores = np.linspace(0, 1, 100)
    alone, one_of_ten = (compare_pairs(scores, scores**2, looks=looks) for looks in (1, 10))
    assert one_of_ten.smallest_detectable > alone.smallest_detectable


def test_smallest_detectable_difference_falls_with_more_items_and_knows_hopeless_samples() -> None:
    sizes = [smallest_detectable(num_items, 0.1) for num_items in (6, 20, 100, 1000, 100_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_detectable(5, 0.5) == 1.0
    assert smallest_detectable(10_000, 0.0) >= 6 / 10_000
    assert math.isnan(smallest_detectable(0, 0.0))


def test_holm_gives_the_values_of_r() -> None:
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and the same out of order."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.03, 0.005, 0.04, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_leaves_undefined_values_out() -> None:
    adjusted = holm([math.nan, 0.02])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(0.02)
