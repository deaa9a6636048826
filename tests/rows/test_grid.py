"""`Grid`: rows from the combinations of values."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows._grid import combination_at
from stillhouse.rows.grid import Grid


def content(session: Session, step: Grid) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "_id"} for row in session.run(step)]


def test_each_combination_is_a_row(session: Session) -> None:
    grid = Grid(attributes={"size": ("S", "L"), "n": (1, None, 2.5)})
    assert content(session, grid) == [
        {"size": size, "n": n} for size, n in itertools.product(("S", "L"), (1, None, 2.5))
    ]


def test_rows_that_are_there_several_times_are_told_apart_by_number(session: Session) -> None:
    grid = Grid(attributes={"size": ("S", "L")}, each=2, number="i")
    assert [(row["size"], row["i"]) for row in content(session, grid)] == [("S", 0), ("S", 1), ("L", 2), ("L", 3)]
    assert content(session, Grid(each=3, number="i")) == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert len({row["_id"] for row in session.run(Grid(attributes={"a": (1,)}, each=5))}) == 5


def test_a_draw_from_a_product_too_large_to_write_down(session: Session) -> None:
    grid = Grid(attributes={name: tuple(range(100)) for name in "abcdefgh"}, num=50, seed=3)
    drawn = content(session, grid)
    assert len({tuple(row.items()) for row in drawn}) == 50
    assert len({row["a"] for row in drawn}) > 20
    assert content(session, grid.replace(seed=4)) != drawn
    assert session.plan(grid.replace(seed=5)).steps[0].expectation.rows == 50


def test_a_draw_of_more_than_there_is_gives_all(session: Session) -> None:
    assert len(content(session, Grid(attributes={"a": (1, 2)}, num=9))) == 2


def test_the_order_of_attributes_counts(session: Session) -> None:
    one, other = Grid(attributes={"a": (1, 2), "b": (3,)}), Grid(attributes={"b": (3,), "a": (1, 2)})
    assert one.recipe_key != other.recipe_key
    assert session.run(other).columns == ["b", "a"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no column"),
        ({"attributes": {"a": ()}}, "`a` has no values"),
        ({"attributes": {"_a": (1,)}}, "`_a` cannot be a column"),
        ({"attributes": {"a": (1,)}, "number": "a"}, "`a` is an attribute"),
    ],
)
def test_a_grid_without_rows_or_columns_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Grid(**fields)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_places_count_through_the_product(sizes: list[int]) -> None:
    grid = Grid(attributes={f"c{place}": tuple(range(size)) for place, size in enumerate(sizes)})
    found = [tuple(combination_at(grid, place).values()) for place in range(grid.num_combinations)]
    assert found == list(itertools.product(*(range(size) for size in sizes)))
