from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, RecipeError, Rows, Session, Shuffle, Split, Take
from stillhouse.rows._apportion import chosen, equal_quotas, quotas
from stillhouse.rows._split import Numbers
from stillhouse.rows.sample import Sample


def table(kinds: str, groups: list[Any] | None = None) -> Import:
    data = [{"n": n, "kind": kind} for n, kind in enumerate(kinds)]
    for row, group in zip(data, groups or [], strict=bool(groups)):
        row["group"] = group
    return Import(data=data, require=())


def numbers(rows: Rows) -> list[int]:
    return [row["n"] for row in rows]


def test_a_sample_keeps_order_and_is_the_same_whatever_the_order_of_the_rows(session: Session) -> None:
    rows = table("ab" * 50)
    made = numbers(session.run(Sample(rows=rows, size=20)))
    assert len(made) == 20
    assert made == sorted(made)
    assert set(numbers(session.run(Sample(rows=Shuffle(rows=rows), size=20)))) == set(made)
    assert numbers(session.run(Sample(rows=rows, size=20, seed=1))) != made
    assert set(numbers(session.run(Sample(rows=rows, size=50)))) > set(made)
    assert len(session.run(Sample(rows=rows, size=0.33))) == 33
    assert numbers(session.run(Sample(rows=rows, size=500))) == list(range(100))


def test_shares_are_exact_or_equal(session: Session) -> None:
    rows = table("a" * 70 + "b" * 20 + "c" * 9 + "d")
    exact = session.run(Sample(rows=rows, size=0.1, by="kind"))
    assert Counter(row["kind"] for row in exact) == {"a": 7, "b": 2, "c": 1}
    equal = session.run(Sample(rows=rows, size=40, by="kind", shares="equal"))
    assert Counter(row["kind"] for row in equal) == {"a": 15, "b": 15, "c": 9, "d": 1}


def test_mistakes_are_told_and_none_of_nothing_is_none(session: Session) -> None:
    with pytest.raises(RecipeError, match="names no column"):
        Sample(rows=table("ab"), size=1, shares="equal")
    with pytest.raises(RecipeError, match="Sample: there is no column `colour`"):
        session.run(Sample(rows=table("ab"), size=1, by="colour"))
    assert len(session.run(Sample(rows=Take(rows=table("ab"), num=0), size=3))) == 0


sizes = st.lists(st.integers(0, 40), min_size=1, max_size=8)


@given(sizes, st.floats(0, 1))
def test_quotas_are_within_one_of_their_exact_shares(numbers: list[int], share: float) -> None:
    total = sum(numbers)
    wanted = round(share * total)
    found = quotas(np.array(numbers), wanted)
    assert found.sum() == wanted
    for size, quota in zip(numbers, found.tolist(), strict=True):
        assert 0 <= quota <= size
        assert abs(quota - size * wanted / max(total, 1)) < 1


@given(sizes, st.integers(0, 200))
def test_equal_quotas_differ_by_one_at_most_unless_a_stratum_has_no_more(numbers: list[int], wanted: int) -> None:
    found = equal_quotas(np.array(numbers), wanted, np.arange(len(numbers), dtype=np.uint64))
    assert found.sum() == min(wanted, sum(numbers))
    assert all(0 <= quota <= size for quota, size in zip(found.tolist(), numbers, strict=True))
    most = int(found.max())
    assert all(quota >= most - 1 or quota == size for quota, size in zip(found.tolist(), numbers, strict=True))


def test_values_with_a_single_row_are_no_error(session: Session) -> None:
    split = Split(rows=table("a" * 9 + "b"), test_size=0.3, by="kind")
    train, test = session.run(split.train), session.run(split.test)
    assert len(train) + len(test) == 10
    assert len(test) == 3


def test_groups_stay_whole_and_shares_are_kept_as_far_as_they_allow(session: Session) -> None:
    # 40 authors with two to five rows each; every author writes of one kind, but for one in five.
    groups = [author for author in range(40) for _ in range(2 + author % 4)]
    kinds = "".join("ab"[(author + (author % 5 == 0) * n) % 2] for n, author in enumerate(groups))
    split = Split(rows=table(kinds, groups), test_size=0.25, by="kind", group="group")
    train, test = session.run(split.train), session.run(split.test)
    assert {row["group"] for row in train} & {row["group"] for row in test} == set()
    wanted = round(0.25 * len(groups))
    assert wanted - 3 <= len(test) <= wanted
    share = Counter(kinds)["a"] / len(kinds)
    assert abs(Counter(row["kind"] for row in test)["a"] - share * wanted) <= 3
    facts = session.run(split).record["facts"]
    assert facts == {"groups": 40, "test_wanted": wanted, "test_found": len(test)}


def test_rows_without_a_group_stand_by_themselves(session: Session) -> None:
    split = Split(rows=table("a" * 12, [None] * 8 + ["x"] * 4), test_size=6, group="group")
    test = session.run(split.test)
    assert len(test) == 6
    assert Counter(row["group"] for row in test)["x"] in (0, 4)


@pytest.mark.parametrize("missing_apart", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        [3, None, 1, 3, None, 1],
        ["a", "b", None, "a", "", None],
        [0.5, float("nan"), None, 0.5, float("nan"), None],
        [{"a": 1}, {"a": 2}, None, {"a": 1}, None, {"a": 2}],
        [[1], [1, 2], [], [1], None, [1, 2]],
        [],
    ],
)
def test_equal_values_have_one_number_in_whatever_batches_they_come(values: list[Any], missing_apart: bool) -> None:
    column = pa.array(values)
    found = Numbers(missing_apart=missing_apart)
    for half in (column.slice(0, 2), column.slice(2)):
        found.add(pa.record_batch({"group": half}), "group")
    numbers = found.array().tolist()
    # A number that is none is written as nothing is, so the two are one value; yet only what is missing stands apart.
    names = [
        f"row {row}" if value is None and missing_apart else "None" if value != value else str(value)
        for row, value in enumerate(values)
    ]
    assert len(set(zip(numbers, names, strict=True))) == len(set(names)) == len(set(numbers))
    assert set(numbers) == set(range(len(set(names))))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40),
    st.integers(1, 20),
    st.integers(0, 100),
)
def test_no_unit_is_torn_and_the_test_part_is_never_too_large(
    rows: list[tuple[int, int]], wanted: int, seed: int
) -> None:
    units = np.unique([unit for unit, _ in rows], return_inverse=True)[1]
    strata = np.unique([stratum for _, stratum in rows], return_inverse=True)[1]
    keys = np.random.default_rng(seed).permutation(len(rows)).astype(np.uint64)
    wanted = min(wanted, len(rows) - 1)
    taken = chosen(keys, units, strata, wanted)
    assert taken.sum() <= wanted
    for unit in set(units.tolist()):
        assert len(set(taken[units == unit].tolist())) == 1
    order = np.random.default_rng(seed + 1).permutation(len(rows))
    again = chosen(keys[order], units[order], np.unique(strata[order], return_inverse=True)[1], wanted)
    assert (again == taken[order]).all()


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(1, 20), st.integers(0, 100))
def test_rows_alone_get_their_exact_quotas(strata: list[int], wanted: int, seed: int) -> None:
    numbers = np.unique(strata, return_inverse=True)[1]
    keys = np.random.default_rng(seed).permutation(len(strata)).astype(np.uint64)
    wanted = min(wanted, len(strata))
    taken = chosen(keys, np.arange(len(strata)), numbers, wanted)
    found = np.bincount(numbers[taken], minlength=int(numbers.max()) + 1)
    assert found.sum() == wanted
    assert (abs(found - np.bincount(numbers) * wanted / len(strata)) < 1).all()
