"""Intervals against published tables and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stillhouse.measure.intervals import bootstrap_mean, bootstrap_means, newcombe_paired, normal_quantile, wilson


@pytest.mark.parametrize(
    ("successes", "num_items", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_numbers_of_newcombes_table(successes: int, num_items: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    interval = wilson(successes, num_items)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_the_interval_of_paired_shares_gives_published_numbers() -> None:
    """Bentur et al. 2009, as in Fagerland, Lydersen and Laake 2017, chapter 8: -0.507 to -0.026."""
    low, high = newcombe_paired(1, 7, 1, 12)
    assert (low, high) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert newcombe_paired(1, 1, 7, 12) == pytest.approx((-high, -low))


def test_the_interval_of_paired_shares_keeps_its_width_where_all_items_changed_and_where_none_did() -> None:
    assert newcombe_paired(0, 0, 10, 0) == pytest.approx((0.6075, 1.0), abs=1e-4)
    low, high = newcombe_paired(10, 0, 0, 0)
    assert (low, high) == pytest.approx((-0.2775, 0.2775), abs=1e-4)
    assert math.isnan(newcombe_paired(0, 0, 0, 0).low)


def test_wilson_is_symmetric_and_stays_within_0_and_1() -> None:
    for num_items in (1, 2, 7, 50, 10_000):
        for successes in {0, 1, num_items // 2, num_items}:
            low, high = wilson(successes, num_items)
            mirrored = wilson(num_items - successes, num_items)
            assert 0 <= low <= successes / num_items <= high <= 1
            assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high))


def test_wilson_of_nothing_is_undefined_and_more_successes_than_items_are_refused() -> None:
    assert all(math.isnan(bound) for bound in wilson(0, 0))
    with pytest.raises(ValueError, match="3 successes among 2"):
        wilson(3, 2)


def test_wilson_keeps_its_coverage_with_few_items() -> None:
    draws = np.random.default_rng(0).binomial(20, 0.9, 4000)
    covered = np.mean([wilson(int(successes), 20).low <= 0.9 <= wilson(int(successes), 20).high for successes in draws])
    assert 0.94 <= covered <= 0.98


def test_spread_of_bootstrapped_means_equals_the_closed_form() -> None:
    values = np.random.default_rng(1).normal(size=400)
    spread = bootstrap_means(values, resamples=20_000).std()
    assert spread == pytest.approx(values.std() / math.sqrt(values.size), rel=0.02)


def test_bootstrap_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(3, 2, size=2000)
    low, high = bootstrap_mean(values, resamples=20_000)
    half = normal_quantile(0.95) * values.std() / math.sqrt(values.size)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_bootstrap_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    values = np.random.default_rng(3).random(300)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_bootstrap_of_clusters_knows_that_copies_are_no_new_evidence() -> None:
    values = np.random.default_rng(4).random(100)
    copied = np.repeat(values, 9)
    labels = np.repeat(np.arange(100), 9)
    alone = bootstrap_means(values, resamples=10_000).std()
    assert bootstrap_means(copied, clusters=labels, resamples=10_000).std() == pytest.approx(alone, rel=0.03)
    assert bootstrap_means(copied, resamples=10_000).std() == pytest.approx(alone / 3, rel=0.03)


def test_bootstrap_of_nothing_is_undefined_and_too_few_resamples_are_refused() -> None:
    assert all(math.isnan(bound) for bound in bootstrap_mean([]))
    with pytest.raises(ValueError, match="too few"):
        bootstrap_mean([1.0], resamples=10)
