"""How long to wait before trying again, and when not to."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.limits import asked_wait
from stillhouse.calls.retry import Cause, Patience, Retries, TryAgain
from stillhouse.core.errors import ModelError, RowFault

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:25Z",
            },
            5.0,
        ),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "20ms"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_headers_ask_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, NOW) == (seconds if seconds is None else pytest.approx(seconds))


@given(failures=st.integers(1, 9), first=st.floats(0.01, 5), longest=st.floats(0.01, 60))
def test_waits_grow_to_a_bound_and_attempts_end(failures: int, first: float, longest: float) -> None:
    patience = Patience(attempts=failures + 1, first_wait=first, longest_wait=longest)
    retries = Retries(patience)

    for number in range(failures):
        assert 0 <= retries.wait_after(TryAgain("server", "boom"), "x") <= min(longest, first * 2**number)
    with pytest.raises(RowFault, match="exhausted"):
        retries.wait_after(TryAgain("reset", "torn"), "x")


@given(asked=st.floats(0, 100))
def test_no_call_is_made_before_the_time_that_was_asked_for(asked: float) -> None:
    retries = Retries(Patience(throttled=1e9))

    assert asked <= retries.wait_after(TryAgain("throttled", "429", wait=asked), "x") <= 1.1 * asked + 0.05


def test_being_put_off_spends_no_attempt_but_has_an_end() -> None:
    retries = Retries(Patience(attempts=1, throttled=100))

    for _ in range(9):
        retries.wait_after(TryAgain("throttled", "429", wait=10), "x")
    with pytest.raises(ModelError, match="`x` puts a request off for 1") as caught:
        retries.wait_after(TryAgain("throttled", "429", wait=15), "x")
    assert caught.value.retryable


def test_a_pause_of_an_hour_is_not_sat_out_whoever_asks_for_it() -> None:
    causes: list[Cause] = ["throttled", "server"]
    for cause in causes:
        with pytest.raises(ModelError, match="s in all, more than 900 s"):
            Retries(Patience()).wait_after(TryAgain(cause, "come back later", wait=3600), "x")


def test_nobody_there_spends_no_attempt() -> None:
    retries = Retries(Patience(attempts=1))

    assert all(retries.wait_after(TryAgain("unreachable", "refused"), "x") <= 2 for _ in range(50))
