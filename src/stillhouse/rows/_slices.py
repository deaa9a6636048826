"""Copying a run of rows, a batch at a time."""

from __future__ import annotations

import pyarrow as pa

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step


def write_slice(context: Context, rows: Step[Rows], start: int, length: int | None) -> None:
    """Rows `start` to `start + length` keep their ids; None goes to the end."""
    source = context.get(rows)
    left = len(source) if length is None else length
    with context.rows() as writer:
        for batch in source.arrow_batches():
            if left <= 0:
                break
            part = batch.slice(start, left)
            start = max(0, start - batch.num_rows)
            left -= part.num_rows
            if part.num_rows:
                writer.write_table(pa.Table.from_batches([part]))
            context.check_stop()
        if writer.counts["out"] == 0:
            writer.write_table(source.schema.empty_table())
