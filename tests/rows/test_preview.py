from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.rows.preview import head, preview, preview_html


def test_a_table_shows_short_ids_and_the_users_columns() -> None:
    rows: list[dict[str, Any]] = [
        {"_id": "0123456789ab", "_calls": ["x"], "n": 1, "text": "two\nlines"},
        {"_id": "ff", "n": None, "text": [1]},
    ]
    assert preview(rows).splitlines() == [
        "_id       n  text",
        "────────  ─  ─────────",
        "01234567  1  two⏎lines",
        "ff        –  [1]",
    ]


def test_only_the_first_rows_are_read() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        yield {"n": 2}
        pytest.fail("read too far")

    assert head(rows(), 2) == [{"n": 1}, {"n": 2}]


def test_no_rows_say_so() -> None:
    assert preview([]) == "(no rows)"
    assert preview_html([]) == "<p>(no rows)</p>"


def test_wide_columns_share_what_narrow_ones_leave() -> None:
    lines = preview([{"n": 1, "a": "x" * 200, "b": "y" * 30, "c": "z" * 200}], width=80).splitlines()
    assert [len(cell) for cell in lines[2].split()] == [1, 24, 24, 25]
    assert len(preview([{"n": 1, "a": "x" * 200}], width=80).splitlines()[2]) == 80


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.none() | st.integers() | st.text(), min_size=1)),
    st.integers(40, 120),
)
def test_no_line_is_wider_than_asked_for(rows: list[dict[str, Any]], width: int) -> None:
    for line in preview(rows, width=width).splitlines():
        assert len(line) <= width


def test_wide_characters_take_two_places() -> None:
    lines = preview([{"a": "日本語テスト" * 10, "b": "x"}], width=20).splitlines()
    assert lines[2] == "日本語テスト日本…  x"


def test_html_is_escaped() -> None:
    page = preview_html([{"<b>": "<script>alert(1)</script> & more"}])
    assert "<th>&lt;b&gt;</th>" in page
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</td>" in page
