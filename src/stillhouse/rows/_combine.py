"""Concatenating, zipping and joining tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ..core._tables import Occurrences, dict_rows
from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import content_of
from ..core.writer import RowsWriter
from ._sql import column, connection, sql_tables
from .transform import lacks, missing_column

if TYPE_CHECKING:
    from .combine import Concat, Join, Zip


def write_concat(step: Concat, context: Context) -> None:
    """The work of `Concat`."""
    sources = [context.get(rows) for rows in step.rows]
    total = sum(len(source) for source in sources)
    seen = Occurrences()
    with context.rows() as writer:
        for source in sources:
            writer.write_table(source.schema.empty_table())
            for batch in source.arrow_batches():
                _write_once(writer, pa.Table.from_batches([batch]), seen)
                context.progress(writer.counts["out"], total)
                context.check_stop()


def _write_once(writer: RowsWriter, table: pa.Table, seen: Occurrences) -> None:
    """Rows whose id is new keep it; the others are made anew, in their place."""
    again = [bool(seen.count(row.encode())) for row in table.column("_id").to_pylist()]
    start = 0
    for repeated, run in itertools.groupby(again):
        length = sum(1 for _ in run)
        part = table.slice(start, length)
        start += length
        if not repeated:
            writer.write_table(part)
            continue
        for row in dict_rows(part):
            writer.emit(row, parents=[row["_id"]])


def write_zip(step: Zip, context: Context) -> None:
    """The work of `Zip`."""
    sources = [context.get(rows) for rows in step.rows]
    lengths = [len(source) for source in sources]
    if len(set(lengths)) > 1:
        raise RecipeError(
            f"Zip: the tables have {', '.join(str(length) for length in lengths)} rows",
            "Tables side by side have one length: cut them with `Take`, or match rows by value with `Join`.",
        )
    _refuse_clash("Zip", [source.columns for source in sources])
    with context.rows() as writer:
        for rows in zip(*sources, strict=True):
            content = {name: value for row in rows for name, value in content_of(row).items()}
            writer.emit(content, parents=[row["_id"] for row in rows])
            if writer.counts["out"] % 1024 == 0:
                context.progress(writer.counts["out"], lengths[0])
                context.check_stop()


def write_join(step: Join, context: Context) -> None:
    """The work of `Join`."""
    left, right = context.get(step.left), context.get(step.right)
    for source in (left, right):
        for name in step.on:
            if lacks(source, name):
                raise missing_column("Join", name, source.columns)
    _refuse_other_types(step, left, right)
    shared = {name for name in step.on if name in left.columns}  # all of them, but for a table that nothing was left of
    added = [name for name in right.columns if name not in shared]
    _refuse_clash("Join", [left.columns, added])
    with connection(context) as database, context.rows() as writer:
        sql_tables(database, lefts=left, rights=right)
        names = ["_left", "_right", *left.columns, *added]
        for batch in database.sql(_join_query(step, left, right, added)).to_arrow_reader(8192):
            for row in dict_rows(batch.rename_columns(names)):
                parents = [row.pop("_left"), row.pop("_right")]
                writer.emit(row, parents=[parent for parent in parents if parent is not None])
            context.progress(writer.counts["out"])
            context.check_stop()
        if writer.counts["out"] == 0:
            fields = [right.schema.field(name) for name in added]
            writer.write_table(pa.schema([*left.schema, *fields]).empty_table())


def _join_query(step: Join, left: Rows, right: Rows, added: Sequence[str]) -> str:
    chosen = [f"lefts.{column(left, name)}" for name in ("_id", *left.columns)]
    chosen[1:1] = [f"rights.{column(right, '_id')}"]
    chosen += [f"rights.{column(right, name)}" for name in added]
    known = all(name in source.columns for source in (left, right) for name in step.on)
    equal = " AND ".join(f"lefts.{column(left, name)} = rights.{column(right, name)}" for name in step.on if known)
    return (
        f"SELECT {', '.join(chosen)} FROM lefts {step.how.upper()} JOIN rights ON {equal or 'false'} "
        "ORDER BY lefts.place, rights.place"
    )


def _refuse_other_types(step: Join, left: Rows, right: Rows) -> None:
    for name in step.on:
        kinds = [source.schema.field(name).type for source in (left, right) if name in source.columns]
        if len(kinds) < 2:
            continue
        numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
        if kinds[0] != kinds[1] and not numbers and not any(map(pa.types.is_null, kinds)):
            raise RecipeError(
                f"Join: the column `{name}` is {kinds[0]} on the left and {kinds[1]} on the right",
                "Make them one type first, for instance text with `Map`.",
            )


def _refuse_clash(step: str, tables: Sequence[Sequence[str]]) -> None:
    names = [name for columns in tables for name in columns]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecipeError(f"{step}: two tables have a column `{twice[0]}`", "Rename one of them first with `Rename`.")
