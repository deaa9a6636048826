"""Rows that are long: fewer are held at once, and what comes out does not depend on the pieces they came in."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core import _tables, writer
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import


def table(lengths: list[int]) -> pa.Table:
    return pa.table(
        {
            "_id": pa.array([f"{number:04d}" for number in range(len(lengths))]),
            "text": pa.array([None if length == 0 else "é" * (length // 2) for length in lengths]),
            "talk": pa.array([[{"role": "user", "n": number}] * (number % 3) for number in range(len(lengths))]),
        }
    )


@given(st.lists(st.integers(0, 600), min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_groups_end_by_what_rows_hold_not_by_how_they_came(lengths: list[int], cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables, "GROUP_BYTES", 8000)
        patch.setattr(_tables, "_BLOCK_ROWS", 4)
        whole = table(lengths)
        places = sorted({0, len(lengths), *(cut for cut in cuts if cut < len(lengths))})
        pieces = [whole.slice(a, b - a) for a, b in pairwise(places)]
        groups = [group.num_rows for group in _tables._groups([whole])]
        assert [group.num_rows for group in _tables._groups(pieces)] == groups
        assert pa.concat_tables(_tables._groups(pieces)).equals(whole)
        assert all(rows % 4 == 0 for rows in groups[:-1])
        assert max(groups) <= 4 + max(4, 8000 // 4)


def test_long_rows_make_small_row_groups_and_are_read_few_at_a_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [{"text": f"{number:04d} " * 500} for number in range(300)]
    usual = session.run(Import(data=data, require=()))
    monkeypatch.setattr(_tables, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(_tables, "_READ_BYTES", 20_000)
    monkeypatch.setattr(writer, "PART_BYTES", 50_000)
    parts: list[Path] = []
    read_part = _tables.read_part

    def noted(path: Path) -> pa.Table:
        parts.append(path)
        return read_part(path)

    monkeypatch.setattr(_tables, "read_part", noted)
    again = session.run(Import(data=data, require=(), columns=("text",)))
    assert len(parts) > 5
    [path] = again.paths
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [64, 64, 64, 64, 44]
    assert 1 < max(batch.num_rows for batch in again.arrow_batches()) < 64
    assert rows_of(again) == rows_of(usual)
    assert pq.ParquetFile(usual.paths[0]).num_row_groups == 1


def rows_of(rows: Any) -> list[Any]:
    return [(row["_id"], row["text"]) for row in rows]
