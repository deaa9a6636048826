from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens import _course
from stillhouse.tokens._prefetch import Prefetch
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.store import TokenStore
from tests.tokens.stores import make_store


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_course, "_BLOCK_ROWS", 20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    folder = tmp_path_factory.mktemp("stores")
    return {name: make_store(folder / name, [8] * count, name=name) for name, count in (("a", 60), ("b", 30))}


def loader_of(stores: dict[str, TokenStore], prefetch: int, **options: object) -> Loader:
    mixture = Mixture({"a": (stores["a"], 0.7), "b": (stores["b"], 0.3)}, max_epochs=None)
    return get_loader(mixture, seq_len=8, batch_size=4, prefetch=prefetch, **options)  # type: ignore[arg-type]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stillhouse-prefetch"]


def until(true: object) -> None:
    """Wait for what another thread does."""
    for _ in range(10_000):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.001)
    raise AssertionError("it did not come to pass")


def test_things_are_made_ahead_up_to_the_depth_and_come_in_order() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    prefetch = Prefetch(make, 3)
    assert prefetch.take(5) == 25
    until(lambda: made == [5, 6, 7, 8])
    assert [prefetch.take(number) for number in (6, 7)] == [36, 49]
    assert prefetch.take(20) == 400  # out of order: what was made ahead is dropped
    prefetch.close()
    assert prefetch.take(3) == 9  # without a thread


def test_what_was_being_made_when_it_was_forgotten_is_not_taken() -> None:
    begun, go_on, value = threading.Event(), threading.Event(), ["old"]

    def make(number: int) -> str:
        found = f"{value[0]} {number}"
        if number == 1 and value[0] == "old":
            begun.set()
            go_on.wait(60)
        return found

    prefetch = Prefetch(make, 2)
    assert prefetch.take(0) == "old 0"
    assert begun.wait(60)
    value[0] = "new"
    prefetch.forget()
    go_on.set()
    assert prefetch.take(1) == "new 1"
    assert prefetch.take(2) == "new 2"
    prefetch.close()


def test_an_error_reaches_the_reader_at_its_place_and_is_tried_again() -> None:
    broken = [True]

    def make(number: int) -> int:
        if number == 2 and broken[0]:
            raise OSError("the disk is gone")
        return number

    prefetch = Prefetch(make, 4)
    assert [prefetch.take(0), prefetch.take(1)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        prefetch.take(2)
    broken[0] = False
    assert [prefetch.take(2), prefetch.take(3)] == [2, 3]
    prefetch.close()


@given(
    st.sampled_from([1, 2, 7]),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9), st.sampled_from([None, 4, 6])), max_size=4),
)
@settings(max_examples=12, deadline=None)
def test_batches_changes_and_states_are_the_same_for_any_depth(
    stores: dict[str, TokenStore], depth: int, changes: list[tuple[int, int, int | None]]
) -> None:
    plain = loader_of(stores, 0)
    with loader_of(stores, depth) as ahead:
        for steps, weight, batch_size in [*changes, (5, 1, None)]:
            for _ in range(steps):
                left, right = next(plain), next(ahead)
                assert np.array_equal(left.ids, right.ids)
                assert left.row_ids == right.row_ids
            given = {"a": weight, "b": 1}
            assert ahead.set_weights(given) == plain.set_weights(given)
            if batch_size is not None:
                assert ahead.set_batch_size(batch_size).step == plain.set_batch_size(batch_size).step == plain.step
            assert ahead.state_dict() == plain.state_dict()
        state = ahead.state_dict()
    again = loader_of(stores, 3, state=state)
    assert np.array_equal(next(again).ids, next(plain).ids)
    again.close()


def test_what_was_gathered_ahead_is_not_handed_out_under_new_weights(stores: dict[str, TokenStore]) -> None:
    with loader_of(stores, 5) as loader:
        next(loader)
        change = loader.set_weights({"a": 0, "b": 1})
        assert change.step == 1
        assert {loader.batch(0).source_names[s] for s in next(loader).source_ids if s >= 0} == {"b"}


def test_the_end_of_the_sources_comes_at_its_place(stores: dict[str, TokenStore]) -> None:
    mixture = Mixture(stores, max_epochs=1)
    with get_loader(mixture, seq_len=8, batch_size=9, prefetch=3) as loader:
        assert loader.end == 10
        for _ in range(10):
            next(loader)
        with pytest.raises(RecipeError, match="step 10"):
            next(loader)


def test_the_thread_ends_with_its_loader(stores: dict[str, TokenStore]) -> None:
    gc.collect()
    until(lambda: not threads())
    loader = loader_of(stores, 2)
    assert not threads()  # none before it is needed
    next(loader)
    assert len(threads()) == 1
    del loader
    gc.collect()
    until(lambda: not threads())
    with loader_of(stores, 2) as loader:
        next(loader)
    assert not threads()


def test_a_depth_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`prefetch` is -1"):
        get_loader(make_store(tmp_path, [3]), seq_len=8, batch_size=1, prefetch=-1)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_looking_at_the_next_batch_hands_nothing_out(stores: dict[str, TokenStore], prefetch: int) -> None:
    plain = loader_of(stores, 0)
    with loader_of(stores, prefetch) as loader:
        for step in range(6):
            assert plain.step == step
            state = loader.state_dict()
            seen = loader.peek()
            assert loader.state_dict() == state
            assert np.array_equal(seen.ids, plain.batch(step).ids)
            if step == 3:  # what was seen is seen anew under the weights that hold now
                for each in (loader, plain):
                    each.set_weights({"a": 0.1, "b": 0.9})
                seen = loader.peek()
                assert np.array_equal(seen.ids, plain.batch(step).ids)
            assert next(loader) is seen
            next(plain)
        loader.load_state_dict(state)
        assert loader.peek().step == state["step"]
