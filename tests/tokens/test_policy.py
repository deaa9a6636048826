"""Policies, guard rails and shares of tokens: what a mixture is asked for and what it gives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens import _course
from stillhouse.tokens._mixing import TOTAL, Schedule, Stage, integer_weights
from stillhouse.tokens._rails import _within
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.policy import NaturalMix, ScheduledMix, StaticMix, TemperatureMix
from stillhouse.tokens.store import TokenStore
from tests.tokens.stores import make_store

SEQ = 8


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few steps: planning far ahead is what would cost here."""
    monkeypatch.setattr(_course, "_BLOCK_ROWS", 20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    """40, 20 and 5 rows; the documents of `b` fill half of each row."""
    folder = tmp_path_factory.mktemp("stores")
    return {
        "a": make_store(folder / "a", [8] * 40, name="a"),
        "b": make_store(folder / "b", [4] * 20, name="b"),
        "c": make_store(folder / "c", [8] * 5, name="c"),
    }


def loader_of(stores: Mapping[str, TokenStore], batch_size: int = 4, **options: Any) -> Loader:
    return get_loader(Mixture(stores, **options), seq_len=SEQ, batch_size=batch_size, packing=Packing("one"))


def rows_of(loader: Loader, steps: int) -> list[str]:
    """The source of each row of the first steps, all planned at once."""
    course = loader._course
    found, step = list[str](), 0
    while step < steps:  # batches of one size at a time
        stop = next((s for s in range(step, steps) if course.batch_size(s) != course.batch_size(step)), steps)
        found += [course.names[number] for number in course.rows(step, stop).sources.tolist()]
        step = stop
    return found


def shares(loader: Loader, steps: int) -> dict[str, float]:
    counts = Counter(rows_of(loader, steps))
    return {source.name: counts[source.name] / counts.total() for source in loader.sources}


# Policies


def test_policies_give_the_shares_that_they_say(stores: dict[str, TokenStore]) -> None:
    free: dict[str, Any] = {"max_epochs": None}
    assert shares(loader_of(stores, policy=NaturalMix(), **free), 130) == pytest.approx(
        {"a": 40 / 65, "b": 20 / 65, "c": 5 / 65}, abs=0.005
    )
    roots = {"a": 40**0.5, "b": 20**0.5, "c": 5**0.5}
    expected = {name: root / sum(roots.values()) for name, root in roots.items()}
    assert shares(loader_of(stores, policy=TemperatureMix(temperature=2.0), **free), 130) == pytest.approx(
        expected, abs=0.005
    )
    fixed = {"a": 0.2, "b": 0.5, "c": 0.3}
    assert shares(loader_of(stores, policy=StaticMix(fixed), **free), 130) == pytest.approx(fixed, abs=0.005)
    assert loader_of(stores, policy=StaticMix(fixed)).fingerprint == loader_of(stores, weights=fixed).fingerprint


def test_a_schedule_changes_weights_at_its_steps_and_is_no_part_of_the_state(stores: dict[str, TokenStore]) -> None:
    policy = ScheduledMix([(0, {"a": 1, "b": 0, "c": 0}), (5, {"a": 0, "b": 1, "c": 0}), (9, {"a": 0, "b": 0, "c": 1})])
    loader = loader_of(stores, policy=policy)
    assert rows_of(loader, 11) == ["a"] * 20 + ["b"] * 16 + ["c"] * 8
    assert len(loader.state_dict()["log"]) == 1
    assert loader.weights == {"a": 1, "b": 0, "c": 0}
    for _ in range(6):
        next(loader)
    assert loader.weights == {"a": 0, "b": 1, "c": 0}
    again = get_loader(
        Mixture(stores, policy=policy), seq_len=SEQ, batch_size=4, packing=Packing("one"), state=loader.state_dict()
    )
    assert [next(again).ids.tolist() for _ in range(5)] == [next(loader).ids.tolist() for _ in range(5)]


def test_places_may_be_shares_of_a_length_with_lines_between(stores: dict[str, TokenStore]) -> None:
    points = [(0, {"a": 1.0, "b": 0.0, "c": 0.0}), (0.5, {"a": 0.0, "b": 1.0, "c": 0.0})]
    policy = ScheduledMix(points, length=40, between="linear", pieces=10)
    stages = policy({"a": 40, "b": 20, "c": 5})
    assert [stage.step for stage in stages] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert [round(stage.weights["b"], 6) for stage in stages] == [round(n / 10, 6) for n in range(11)]
    found = [rows_of(loader_of(stores, policy=policy, max_epochs=None), step).count("b") for step in (4, 12, 20, 24)]
    assert found == pytest.approx([0.8, 12, 36, 52], abs=1)


@given(st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 9), min_size=3, max_size=3)), max_size=6))
@settings(max_examples=10, deadline=None)
def test_a_schedule_gives_what_the_same_changes_by_hand_give(
    stores: dict[str, TokenStore], steps: Sequence[tuple[int, list[int]]]
) -> None:
    changes = [(gap, weights) for gap, weights in steps if any(weights)]
    points, at = [(0, {"a": 1.0, "b": 1.0, "c": 1.0})], 0
    for gap, weights in changes:
        at += gap
        points.append((at, dict(zip("abc", map(float, weights), strict=True))))
    scheduled = loader_of(stores, policy=ScheduledMix(points), max_epochs=None)
    by_hand = loader_of(stores, weights=points[0][1], max_epochs=None)
    for step in range(at + 5):
        for place, found in points[1:]:
            if place == step:
                by_hand.set_weights(found)
        assert np.array_equal(next(scheduled).ids, next(by_hand).ids)


def test_another_batch_size_moves_the_rows_of_a_schedule_but_not_its_steps(stores: dict[str, TokenStore]) -> None:
    policy = ScheduledMix([(0, {"a": 1, "b": 0, "c": 0}), (6, {"a": 0, "b": 1, "c": 0})])
    loader = loader_of(stores, policy=policy)
    next(loader), next(loader)
    loader.rows_at_step(7)  # looked at before the change, and different after it
    loader.set_batch_size(2)
    assert rows_of(loader, 8) == ["a"] * 16 + ["b"] * 4


def test_who_sets_weights_takes_over_from_the_policy(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(stores, policy=ScheduledMix([(0, {"a": 1, "b": 0, "c": 0}), (3, {"a": 0, "b": 1, "c": 0})]))
    loader.batch(5)
    next(loader)
    loader.set_weights({"a": 0, "b": 0, "c": 1})
    assert rows_of(loader, 4) == ["a"] * 4 + ["c"] * 12


@pytest.mark.parametrize(
    ("points", "options", "said"),
    [
        ([(1, {"a": 1})], {}, "not at 0"),
        ([(0, {"a": 1}), (5, {"a": 1}), (5, {"a": 2})], {}, "step 5 follows one at step 5"),
        ([(0, {"a": 1}), (0.5, {"a": 1})], {}, "0.5 is not a number of steps"),
        ([(0, {"a": 1}), (2, {"a": 1})], {"length": 10}, "beyond the end"),
        ([(0, {"a": 1}), (2, {"b": 1})], {}, "names other sources"),
    ],
)
def test_points_that_do_not_fit_are_refused(points: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        ScheduledMix(points, **options)


# How often a source may be read


@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    st.integers(1, 7),
    st.sampled_from(["a", "b", "c"]),
)
@settings(max_examples=12, deadline=None)
def test_a_source_is_read_no_more_often_than_it_may_be_and_the_others_take_its_share(
    stores: dict[str, TokenStore], weights: list[int], most: float, batch_size: int, endless: str
) -> None:
    limits = {name: most for name in stores if name != endless}
    loader = loader_of(stores, batch_size, weights=dict(zip("abc", weights, strict=True)), max_epochs=limits)
    assert loader.end is None
    sources = loader._course.schedule.place(0, 4000).sources.tolist()
    rows = [loader.sources[number].name for number in sources]
    counts = Counter(rows)
    for source in loader.sources:
        if source.name in limits:
            assert counts[source.name] == int(most * source.rows_per_epoch)
    # Each takes part in the order of its weight until it has given all: the share then goes to the others.
    taken = Counter[str]()
    for name in rows:
        taken[name] += 1
        if name in limits:
            assert taken[name] <= int(most * {"a": 40, "b": 20, "c": 5}[name])


def test_when_nothing_is_left_it_says_so_and_more_may_be_allowed(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(stores, batch_size=10, max_epochs=2)
    assert loader.end == 13  # 130 rows
    for _ in range(13):
        next(loader)
    with pytest.raises(RecipeError, match=r"(?s)step 13.*`a` 2 times.*set_max_epochs"):
        next(loader)
    assert [account.epochs for account in loader.account().values()] == [2, 2, 2]
    assert sum(loader.weights.values()) == pytest.approx(1)
    loader.set_max_epochs({"a": 3})
    assert next(loader).step == 13
    again = get_loader(
        Mixture(stores, max_epochs=2), seq_len=SEQ, batch_size=10, packing=Packing("one"), state=loader.state_dict()
    )
    assert next(again).ids.tolist() == next(loader).ids.tolist()
    assert loader.rows_at_step(2) == again.rows_at_step(2)


@pytest.mark.parametrize("reason", ["", "more"])
def test_limits_that_are_lifted_before_the_first_step_stay_lifted(stores: dict[str, TokenStore], reason: str) -> None:
    loader = loader_of(stores, max_epochs=2)
    loader.set_max_epochs(None, reason=reason)
    assert loader.end is None
    again = loader_of(stores, max_epochs=2)
    again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert again.end is None
    assert again.fingerprint == loader.fingerprint != loader_of(stores, max_epochs=2).fingerprint
    endless = loader_of(stores, max_epochs=None)
    endless.set_max_epochs(3)
    with pytest.warns(UserWarning, match="max epochs of its state"):
        again.load_state_dict(json.loads(json.dumps(endless.state_dict())))
    assert again.end == endless.end is not None


def test_four_epochs_are_the_default_of_a_mixture_and_none_that_of_one_source(stores: dict[str, TokenStore]) -> None:
    assert loader_of(stores, batch_size=5).end == 4 * 65 // 5
    assert get_loader(stores["a"], seq_len=SEQ, batch_size=5).end is None


def test_a_state_with_other_limits_or_weights_goes_on_with_its_own_and_tells(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(stores, weights={"a": 1, "b": 1, "c": 1})
    state = {**loader.state_dict(), "step": 3}
    with pytest.warns(UserWarning, match="max epochs of its state"):
        loader_of(stores, weights={"a": 1, "b": 1, "c": 1}, max_epochs=9).load_state_dict(state)
    other = loader_of(stores, weights={"a": 1, "b": 1, "c": 2})
    with pytest.warns(UserWarning, match=r"weights of its state.*set_weights"):
        other.load_state_dict(state)
    assert other.weights == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=1e-6)


# Floors and ceilings


bounded = st.lists(
    st.tuples(st.fractions(0, 9), st.fractions(0, Fraction(1, 8)), st.fractions(Fraction(1, 4), 1)),
    min_size=4,
    max_size=8,
)


@given(bounded)
def test_shares_keep_within_their_bounds_and_in_proportion_where_none_holds(
    drawn: list[tuple[Fraction, Fraction, Fraction]],
) -> None:
    weights: list[Fraction] = [weight for weight, _, _ in drawn]
    floors: list[Fraction] = [floor for _, floor, _ in drawn]
    ceilings: list[Fraction] = [ceiling for _, _, ceiling in drawn]
    found = _within(weights, floors, ceilings)
    if found is None:  # the ceilings of those with a weight, and the floors of the others, are less than all
        assert sum(c if w else f for w, f, c in zip(weights, floors, ceilings, strict=True)) < 1
        return
    assert float(sum(found)) == pytest.approx(1, abs=1e-5)
    assert all(f <= value <= c for f, value, c in zip(floors, found, ceilings, strict=True))
    free = [n for n, value in enumerate(found) if floors[n] < value < ceilings[n]]
    scales = {found[n] / weights[n] for n in free}
    assert len(scales) <= 1
    for scale in scales:  # whoever stands at a bound would be beyond it
        for weight, value, floor in zip(weights, found, floors, strict=True):
            assert weight * scale <= value if value == floor else weight * scale >= value


def test_floors_and_ceilings_hold_for_weights_that_are_set_too(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(stores, weights={"a": 8, "b": 1, "c": 1}, floors={"c": 0.2}, ceilings={"a": 0.5})
    assert loader.weights == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25}, abs=1e-6)
    change = loader.set_weights({"a": 0, "b": 1, "c": 0}, reason="test")
    assert change.step == 0
    assert change.weights is not None
    assert np.array(change.weights) / TOTAL == pytest.approx([0, 0.8, 0.2], abs=1e-6)
    with pytest.raises(RecipeError, match="ceilings leave a part"):
        loader.set_weights({"a": 1, "b": 0, "c": 0})


def test_a_ceiling_gives_way_where_nothing_else_is_left(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(
        stores, weights={"a": 1, "b": 1, "c": 8}, ceilings={"a": 0.3, "b": 0.6}, max_epochs={"c": 1, "b": 1}
    )
    rows = rows_of(loader, 30)
    assert Counter(rows)["c"] == 5
    assert Counter(rows)["b"] == 20
    assert set(rows[-40:]) == {"a"}


def test_one_call_moves_no_share_by_more_than_it_may(stores: dict[str, TokenStore]) -> None:
    loader = loader_of(stores, weights={"a": 0.5, "b": 0.3, "c": 0.2}, max_change=0.1)
    loader.set_weights({"a": 0.0, "b": 0.8, "c": 0.2})
    assert loader.weights == pytest.approx({"a": 0.4, "b": 0.4, "c": 0.2}, abs=1e-6)
    loader.set_weights({"a": 0.45, "b": 0.35, "c": 0.2})
    assert loader.weights == pytest.approx({"a": 0.45, "b": 0.35, "c": 0.2}, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"floors": {"a": 0.6, "b": 0.5}}, "floors add up to 1.1"),
        ({"ceilings": {"a": 0.1, "b": 0.2, "c": 0.3}}, "ceilings add up to 0.6"),
        ({"floors": {"a": 0.5}, "ceilings": {"a": 0.4}}, "floor of `a` is above its ceiling"),
        ({"floors": {"wiki": 0.5}}, "a floor for `wiki`"),
        ({"ceilings": {"a": 1.5}}, "ceiling of `a` is 1.5"),
        ({"max_epochs": {"wiki": 1}}, "`max_epochs` names `wiki`"),
        ({"max_epochs": 0}, "`max_epochs` of `a` is 0"),
        ({"max_epochs": float("nan")}, "`max_epochs` of `a` is nan"),
        ({"weights": {"a": 1, "b": 1, "c": 1}, "policy": NaturalMix()}, "weights and a policy"),
        ({"policy": StaticMix({"a": 1, "b": 1})}, "`c` has no weight"),
        ({"policy": StaticMix({"a": 1, "b": 1, "c": float("inf")})}, "weight of `c` is inf"),
    ],
)
def test_rails_that_do_not_fit_are_refused(stores: dict[str, TokenStore], options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        loader_of(stores, **options)


# Shares of tokens


def test_shares_of_tokens_are_those_of_the_tokens_given(stores: dict[str, TokenStore]) -> None:
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    loader = get_loader(
        Mixture(stores, weights=weights, share="tokens", max_epochs=None),
        seq_len=SEQ,
        batch_size=5,
        packing=Packing("one"),
    )
    for _ in range(200):
        next(loader)
    assert {name: account.share for name, account in loader.account().items()} == pytest.approx(weights, abs=0.005)
    assert loader.weights["b"] == pytest.approx(0.6 / 1.3, abs=1e-6)  # rows of `b` are half as long


def test_floors_are_of_tokens_where_shares_are(stores: dict[str, TokenStore]) -> None:
    loader = get_loader(
        Mixture(stores, weights={"a": 1, "b": 0, "c": 1}, share="tokens", floors={"b": 0.4}, max_epochs=None),
        seq_len=SEQ,
        batch_size=5,
        packing=Packing("one"),
    )
    for _ in range(200):
        next(loader)
    assert loader.account()["b"].share == pytest.approx(0.4, abs=0.005)


# Mixtures inside mixtures


def test_weights_of_nested_mixtures_multiply(stores: dict[str, TokenStore]) -> None:
    inner = Mixture({"a": (stores["a"], 3), "b": (stores["b"], 1)})
    mixture = Mixture({"web": (inner, 0.8), "c": (stores["c"], 0.2)})
    assert mixture.weights == pytest.approx({"web/a": 0.6, "web/b": 0.2, "c": 0.2})
    assert set(get_loader(mixture, seq_len=SEQ, batch_size=2).weights) == {"web/a", "web/b", "c"}
    assert Mixture({"web": Mixture({"a": stores["a"]}), "c": stores["c"]}).weights is None


def test_nested_mixtures_that_do_not_fit_are_refused(stores: dict[str, TokenStore]) -> None:
    with pytest.raises(RecipeError, match="only one has weights"):
        Mixture({"web": (Mixture({"a": stores["a"]}), 0.8), "c": (stores["c"], 0.2)})
    with pytest.raises(RecipeError, match="options of its own"):
        Mixture({"web": Mixture({"a": stores["a"]}, max_epochs=2), "c": stores["c"]})


# The schedule by itself


class Limits:
    """At most so many rows of each source."""

    def __init__(self, *limits: int) -> None:
        self.limits = limits

    def allowed(self, asked: Sequence[int], taken: Sequence[int]) -> tuple[int, ...] | None:
        left = [weight if t < most else 0 for weight, t, most in zip(asked, taken, self.limits, strict=True)]
        return integer_weights([float(weight) for weight in left]) if any(left) else None

    def limit(self, source: int, taken: int) -> int | None:
        return self.limits[source]


@given(
    st.lists(st.integers(1, 20), min_size=3, max_size=3),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(1, 60), st.lists(st.integers(0, 9), min_size=3, max_size=3)), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_a_schedule_with_limits_and_stages_is_one_order_whichever_way_it_is_asked(
    weights: list[int], limits: list[int], later: list[tuple[int, list[int]]]
) -> None:
    stages = [Stage(row, integer_weights([float(w) for w in found])) for row, found in later if any(found)]

    def made() -> Schedule:
        return Schedule(integer_weights([float(w) for w in weights]), Limits(*limits), stages)

    end = made().end
    assert end is not None
    place = made().place(0, end)
    counts = np.bincount(place.sources, minlength=3).tolist()
    assert all(count <= limit for count, limit in zip(counts, limits, strict=True))
    backwards = made()
    for row in range(end - 1, -1, -7):
        assert backwards.taken(row) == tuple(np.bincount(place.sources[:row], minlength=3).tolist())
    asked = made()
    for row, (source, draw) in enumerate(zip(place.sources.tolist(), place.ordinals.tolist(), strict=True)):
        if row % 5 == 0:
            assert asked.row_of(source, draw) == row
    for source, count in enumerate(counts):
        assert made().row_of(source, count) is None
