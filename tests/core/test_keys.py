from __future__ import annotations

import datetime as dt
import decimal
import enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import canonical, digest_of, file_digest, folder_digest

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(enum.StrEnum):
    RED = "red"


@given(value=plain)
def test_equal_values_have_equal_forms(value: Any) -> None:
    assert digest_of(canonical(value)) == digest_of(canonical(value))


@given(pairs=st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_a_mapping_does_not_count(pairs: dict[str, int]) -> None:
    turned = dict(reversed(list(pairs.items())))
    assert canonical(pairs) == canonical(turned)


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, 1.0), (1, True), (0, False), ("1", 1), (None, "None"), ([], {}), (b"a", "a"), ([1, 2], [2, 1]), ("", None)],
)
def test_types_are_kept_apart(left: Any, right: Any) -> None:
    assert digest_of(canonical(left)) != digest_of(canonical(right))


def test_minus_zero_is_zero_and_tuples_are_lists() -> None:
    assert canonical(-0.0) == canonical(0.0)
    assert canonical((1, 2)) == canonical([1, 2])
    assert canonical({3, 1, 2}) == canonical({2, 3, 1})
    assert canonical(Colour.RED) == canonical("red")


def test_scalars_have_a_form_of_their_own() -> None:
    values = [dt.date(2024, 5, 3), dt.timedelta(seconds=3), decimal.Decimal("1.50"), b"\x00", float("inf")]
    assert len({digest_of(canonical(value)) for value in values}) == len(values)
    assert canonical(decimal.Decimal("1.50")) == canonical(decimal.Decimal("1.5"))


@pytest.mark.parametrize("value", [float("nan"), object(), Path("/tmp"), "\ud800", lambda: None])
def test_what_has_no_stable_form_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"settings\[0\]"):
        canonical([value], where="settings")


def test_a_file_counts_by_content_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    assert file_digest(first) == file_digest(second)
    before = file_digest(first)
    first.write_bytes(b"other, longer")
    assert file_digest(first) != before


def test_a_folder_counts_by_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert folder_digest(tmp_path) != before
