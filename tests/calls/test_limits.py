"""What headers tell of limits, and buckets that fill with time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.limits import Bucket, Kind, Told, has_limits, told_limits

NOW = 1_764_166_920.0  # 2025-11-26T14:22:00Z
OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29000",
    "x-ratelimit-reset-tokens": "2s",
}
GROQ = {  # requests a day, tokens a minute
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "40",
    "anthropic-ratelimit-requests-reset": "2025-11-26T14:22:12Z",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "40000",
    "anthropic-ratelimit-input-tokens-reset": "2025-11-26T14:22:00Z",
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "anthropic-ratelimit-output-tokens-remaining": "6000",
    "anthropic-ratelimit-output-tokens-reset": "2025-11-26T14:22:15Z",
}


@pytest.mark.parametrize(
    ("headers", "a_minute"),
    [
        (OPENAI, {"requests": 500, "tokens": 30_000}),
        (GROQ, {"requests": 10}),
        (ANTHROPIC, {"requests": 50, "input": 40_000, "output": 8000}),
    ],
)
def test_limits_are_read_from_headers_whatever_their_window(
    headers: dict[str, str], a_minute: dict[Kind, float]
) -> None:
    assert has_limits(headers)
    found = told_limits(headers, NOW)

    assert {kind: round(60 * told.rate, -1) for kind, told in found.items()} == a_minute


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "1"},
        {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "11"},
        {"x-ratelimit-limit-requests": "10"},
        {"anthropic-ratelimit-requests-limit": "-1", "anthropic-ratelimit-requests-remaining": "-1"},
    ],
)
def test_headers_that_make_no_sense_set_no_limit(headers: dict[str, str]) -> None:
    assert told_limits(headers, NOW) == {}


def test_a_limit_without_a_reset_is_one_of_a_minute() -> None:
    headers = {"x-ratelimit-limit-tokens": "600", "x-ratelimit-remaining-tokens": "1"}

    assert told_limits(headers, NOW) == {"tokens": Told(600, 1, None)}
    assert told_limits(headers, NOW)["tokens"].rate == 10


def test_a_reset_that_is_a_time_of_day_is_not_taken_for_a_duration() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1764166980",
    }

    assert told_limits(headers, NOW)["requests"].rate == 1


@given(limit=st.integers(1, 5000), greed=st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_minute_sees_more_than_the_limit(limit: int, greed: list[float]) -> None:
    """Whoever takes one as soon as it is there, with pauses of any length between."""
    bucket = Bucket.per_minute(limit, 0.0)
    now, taken = 0.0, [float(0)][:0]
    for pause in greed:
        now += pause
        bucket.fill(now)
        while (wait := bucket.seconds_until(1.0)) == 0.0 and len(taken) < 3 * limit:
            bucket.level -= 1.0
            taken.append(now)
        now += wait

    for start, first in enumerate(taken):
        assert sum(first <= time < first + 60 - 1e-6 for time in taken[start : start + limit + 1]) <= limit


def test_a_debt_is_paid_before_the_next_is_given() -> None:
    bucket = Bucket(rate=10.0, size=10.0, level=-20.0, at=0.0)

    assert bucket.seconds_until(5.0) == 2.5
    assert bucket.seconds_until(1e9) == 3.0  # more than it ever holds: when it is full
    bucket.fill(-100.0)  # a clock that was set back
    assert bucket.level == -20.0


@pytest.mark.parametrize("skew", [0.0, 0.3, 8.0, 45.0])
def test_what_comes_back_comes_back_once_for_machines_whose_clocks_differ(skew: float) -> None:
    bucket = Bucket.per_minute(600, 0.0)
    taken = 0
    for tick in range(300):
        for ahead in (0.0, skew):
            bucket.fill(0.1 * tick + ahead)
            while bucket.seconds_until(1.0) == 0.0:
                bucket.level -= 1.0
                taken += 1

    assert 250 <= taken <= 300 + 2 * bucket.size


def test_a_clock_that_was_set_back_by_an_hour_holds_up_nobody() -> None:
    bucket = Bucket(rate=10.0, size=10.0, level=0.0, at=4000.0)
    bucket.fill(400.0)
    assert bucket.level == 0.0
    bucket.fill(400.5)
    assert bucket.level == 5.0
