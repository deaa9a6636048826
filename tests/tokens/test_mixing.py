from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens._mixing import TOTAL, Schedule, Segment, integer_weights
from stillhouse.tokens.mixing import Mixture

weights = st.lists(st.integers(1, 1000), min_size=2, max_size=64)


def deviations(schedule: Schedule, num_rows: int) -> npt.NDArray[np.float64]:
    """[rows, sources] how far each source is from the sum of its weights, after each row."""
    sources = schedule.place(0, num_rows).sources
    num_sources = len(schedule.segments[0].weights)
    counts = np.cumsum(np.eye(num_sources)[sources], axis=0)
    wanted = np.zeros((num_rows, num_sources))
    for number, segment in enumerate(schedule.segments):
        last = schedule.segments[number + 1].first_row if number + 1 < len(schedule.segments) else num_rows
        wanted[segment.first_row : last] = np.array(segment.weights) / TOTAL
    return counts - np.cumsum(wanted, axis=0)


def changed(seed: int, num_sources: int, num_changes: int, longest: int, evenness: float) -> tuple[Schedule, int]:
    """A schedule whose weights are redrawn every 1 … `longest` rows, and a number of rows beyond the last change."""
    random = np.random.default_rng(seed)

    def draw() -> tuple[int, ...]:
        return integer_weights(random.dirichlet(np.full(num_sources, evenness)).tolist())

    schedule, row = Schedule(draw()), 0
    for _ in range(num_changes):
        row += int(random.integers(1, longest + 1))
        schedule.change(row, draw())
    return schedule, row + longest


@given(weights)
def test_every_prefix_is_within_two_rows_of_its_shares(shares: list[int]) -> None:
    schedule = Schedule(integer_weights([float(share) for share in shares]))
    assert np.abs(deviations(schedule, 1500)).max() < 2
    assert schedule.segments[0].farthest <= 2


@given(st.integers(0, 2**32), st.integers(2, 64), st.sampled_from([5, 64]), st.sampled_from([0.3, 1.0, 10.0]))
@settings(max_examples=15)
def test_changes_of_weights_do_not_add_up(seed: int, num_sources: int, longest: int, evenness: float) -> None:
    schedule, num_rows = changed(seed, num_sources, 60, longest, evenness)
    found = np.abs(deviations(schedule, num_rows)).max()
    assert found < 2
    assert found <= max(segment.farthest for segment in schedule.segments) + 1e-9


def test_two_thousand_changes_keep_within_two_rows() -> None:
    schedule, num_rows = changed(0, 8, 2000, 30, 1.0)
    assert np.abs(deviations(schedule, num_rows)).max() < 2


@given(weights)
def test_a_source_comes_within_two_turns(shares: list[int]) -> None:
    """A share w of the rows is drawn first within 2 / w rows, and the fourth time within 5 / w."""
    values = integer_weights([float(share) for share in shares])
    schedule = Schedule(values)
    rarest = int(np.argmin(values))
    rows = [schedule.row_of(rarest, draw) for draw in range(4)]
    first, *_, last = [row for row in rows if row is not None]
    turn = TOTAL / values[rarest]
    assert first < 2 * turn
    assert last < 5 * turn


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 30))
def test_every_draw_of_a_source_comes_once_and_in_order(seed: int, num_sources: int, num_changes: int) -> None:
    schedule, num_rows = changed(seed, num_sources, num_changes, 40, 0.7)
    place = schedule.place(0, num_rows)
    for source in range(num_sources):
        draws = place.ordinals[place.sources == source]
        assert draws.tolist() == list(range(len(draws)))
    assert schedule.taken(num_rows) == tuple(np.bincount(place.sources, minlength=num_sources).tolist())


@given(st.integers(0, 2**32), st.integers(1, 40), st.data())
def test_any_range_equals_its_part_of_the_whole(seed: int, num_sources: int, data: st.DataObject) -> None:
    schedule, num_rows = changed(seed, num_sources, 10, 40, 0.7)
    whole = schedule.place(0, num_rows)
    first = data.draw(st.integers(0, num_rows - 1))
    stop = data.draw(st.integers(first + 1, num_rows))
    part = schedule.place(first, stop)
    assert np.array_equal(part.sources, whole.sources[first:stop])
    assert np.array_equal(part.ordinals, whole.ordinals[first:stop])


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 20))
def test_the_row_of_a_draw_is_the_inverse(seed: int, num_sources: int, num_changes: int) -> None:
    schedule, num_rows = changed(seed, num_sources, num_changes, 30, 0.5)
    place = schedule.place(0, num_rows)
    for row, (source, draw) in enumerate(zip(place.sources.tolist(), place.ordinals.tolist(), strict=True)):
        assert schedule.row_of(source, draw) == row


def test_arithmetic_holds_far_out() -> None:
    schedule = Schedule(integer_weights([0.7, 0.2, 0.1]))
    far = 10**11
    place = schedule.place(far, far + 1000)
    assert np.bincount(place.sources).tolist() == pytest.approx([700, 200, 100], abs=3)
    assert [schedule.row_of(int(s), int(d)) for s, d in zip(*place, strict=True)] == list(range(far, far + 1000))
    assert sum(schedule.taken(far)) == far


def test_a_weight_of_zero_is_never_drawn() -> None:
    schedule = Schedule(integer_weights([0.5, 0.0, 0.5]))
    schedule.change(101, integer_weights([0.0, 1.0, 1.0]))
    schedule.change(150, integer_weights([1.0, 0.0, 1.0]))
    sources = schedule.place(0, 400).sources
    assert 1 not in sources[:101]
    assert 0 not in sources[101:150]
    assert 1 not in sources[150:]
    assert schedule.row_of(1, 10_000) is None


def test_golden_schedule() -> None:
    schedule = Schedule(integer_weights([0.6, 0.3, 0.1]))
    schedule.change(12, integer_weights([0.1, 0.1, 0.8]))
    assert "".join(map(str, schedule.place(0, 24).sources.tolist())) == "010100201001222022221222"


def test_golden_schedule_of_many_sources() -> None:
    def shares(number: int) -> tuple[int, ...]:
        return integer_weights([1.0 + (source * 37 + number * 11) % 101 for source in range(48)])

    schedule = Schedule(shares(0))
    for number in range(1, 13):
        schedule.change(number * 70, shares(number * number))
    placed = schedule.place(0, 1200).sources.astype("<u1").tobytes()
    assert hashlib.sha256(placed).hexdigest()[:16] == "bade5ee144d5960d"


def test_a_change_before_the_last_one_is_refused() -> None:
    schedule = Schedule(integer_weights([1.0, 1.0]))
    schedule.change(10, integer_weights([1.0, 3.0]))
    with pytest.raises(ValueError, match="before the last change"):
        schedule.change(9, integer_weights([1.0, 1.0]))


def test_the_later_of_two_changes_at_one_row_holds() -> None:
    once, twice = Schedule(integer_weights([1.0, 1.0])), Schedule(integer_weights([1.0, 1.0]))
    twice.change(7, integer_weights([9.0, 1.0]))
    for schedule in (once, twice):
        schedule.change(7, integer_weights([1.0, 3.0]))
    assert np.array_equal(once.place(0, 99).sources, twice.place(0, 99).sources)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=64).filter(lambda values: sum(values) > 0))
def test_integer_weights_sum_to_the_total_and_keep_zero_and_positive(values: list[float]) -> None:
    found = integer_weights(values)
    assert sum(found) == TOTAL
    assert [weight > 0 for weight in found] == [value > 0 for value in values]
    assert all(
        abs(weight - value / sum(values) * TOTAL) <= len(values) for weight, value in zip(found, values, strict=True)
    )


def test_a_segment_counts_what_it_places() -> None:
    segment = Segment(0, integer_weights([5.0, 3.0, 1.0]), (0, 0, 0), (0, 0, 0))
    sources = segment.place(np.arange(500)).sources
    for num_rows in range(0, 500, 7):
        assert segment.counts(num_rows) == tuple(np.bincount(sources[:num_rows], minlength=3).tolist())


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({}, "no sources"),
        ({"a": ("x", 1.0), "b": "y"}, "`b` has no weight"),
        ({"a": ("x", -1.0)}, "weight of `a` is -1.0"),
        ({"a": ("x", float("nan"))}, "weight of `a` is nan"),
        ({"a": ("x", 0.0)}, "all weights are 0"),
        ({"a": ("x", 0.5, 0.5)}, "`a` has 3 parts"),
        (["x"], "given as `list`"),
    ],
)
def test_weights_that_do_not_fit_are_refused(sources: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Mixture(sources)
