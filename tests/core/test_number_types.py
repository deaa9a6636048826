"""Numbers keep the type that their column had, as long as they are as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.embedder import Embedder
from stillhouse.core._tables import RowBuffer, common_schema
from stillhouse.core.session import Session
from stillhouse.generate.embed import Embed
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Map

LIKE = pa.schema([("v", pa.list_(pa.float32())), ("n", pa.int16()), ("x", pa.float32())])


def table(*rows: dict[str, Any]) -> pa.Table:
    buffer = RowBuffer.empty()
    for number, row in enumerate(rows):
        buffer.add(f"{number:024d}", (), (), row)
    return buffer.table(LIKE)


def longer(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "more": 0.1}


def test_a_vector_stays_narrow_through_a_step_that_emits_its_rows_again(tmp_path: Path) -> None:
    rows = Import(data=[{"text": "one"}, {"text": "two"}], require=())
    step = Map(rows=Embed(rows=rows, by=Embedder(model="hash:8")), function=longer)
    with Session(tmp_path, track=False, progress=False) as session:
        before = [row["vector"] for row in session.run(step.rows)]
        made = session.run(step)
    assert made.schema.field("vector").type.value_type == pa.float32()
    assert made.schema.field("more").type == pa.float64()
    assert [row["vector"] for row in made] == before


def test_numbers_that_do_not_fit_keep_the_wide_type() -> None:
    assert table({"v": [0.1], "n": 70_000, "x": 1.5}).schema.types[3:] == [
        pa.list_(pa.float64()),
        pa.int64(),
        pa.float32(),
    ]
    assert table({"v": [float("nan"), 0.5], "n": None, "x": "text"}).schema.types[3:] == [
        pa.list_(pa.float32()),
        pa.null(),
        pa.string(),
    ]


@given(values=st.lists(st.sampled_from([0.5, 0.1, float("inf")]), min_size=2, max_size=8), cut=st.integers(1, 7))
def test_the_type_does_not_rest_on_the_pieces_that_rows_come_in(values: list[float], cut: int) -> None:
    rows = [{"v": [value], "n": 1, "x": value} for value in values]
    parts = [table(*part) for part in (rows[:cut], rows[cut:]) if part]
    pieces = common_schema(part.schema for part in parts)
    assert pieces.equals(common_schema([table(*rows).schema]))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.large_list(pa.float32())])
def test_all_lists_become_lists_of_one_kind(kind: pa.DataType) -> None:
    buffer = RowBuffer.empty()
    buffer.add("0" * 24, (), (), {"v": [0.5, 1.5]})
    assert buffer.table(pa.schema([("v", kind)])).schema.field("v").type == pa.list_(pa.float32())
