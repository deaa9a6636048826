"""Splitting a table by row ids."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ..core._tables import arrow_batches
from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ._apportion import Integers, Keys, chosen, keys_of, mixed, num_wanted, numbered
from .transform import lacks, missing_column

if TYPE_CHECKING:
    from .split import Split


def write_split(step: Split, context: Context) -> None:
    """The work of `Split`."""
    source = context.get(step.rows)
    facts = row_facts(source, context, step.seed, step.by, step.group)
    wanted = num_wanted(step.test_size, len(source))
    check_size("Split", wanted, len(source))
    in_test = chosen(facts.keys, facts.groups, facts.strata, wanted)
    if step.group is not None:
        context.note(groups=int(facts.groups.max()) + 1, test_wanted=wanted, test_found=int(in_test.sum()))
    write_parts(source, context, in_test)


class RowFacts(NamedTuple):
    """For each row its random key, the number of its value of `by`, and the number of its value of `group`."""

    keys: Keys
    strata: Integers
    groups: Integers


def row_facts(source: Rows, context: Context, seed: int, by: str | None, group: str | None = None) -> RowFacts:
    """One pass over the rows; without `by` there is one stratum.

    Without `group`, or without a value there, a row is a group of its own. Groups are numbered without gaps.
    """
    for name in (by, group):
        if name is not None and lacks(source, name):
            raise missing_column(type(context.step).__name__, name, source.columns)
    if not len(source):
        by = group = None
    keys: list[Keys] = [np.zeros(0, dtype=np.uint64)]
    strata, groups = Numbers(), Numbers(missing_apart=True)
    wanted = list(dict.fromkeys(name for name in ("_id", by, group) if name is not None))
    for batch in arrow_batches(source.paths, 65_536, wanted):
        keys.append(keys_of(batch.column("_id").to_pylist(), seed))
        strata.add(batch, by)
        groups.add(batch, group)
        context.check_stop()
    all_keys = np.concatenate(keys)
    return RowFacts(all_keys, strata.array(), np.arange(len(all_keys)) if group is None else groups.array())


class Numbers:
    """Numbers the distinct values of a column, without gaps.

    Where a value is missing, that is a value as any other, or with `missing_apart` each time a new one. A value is held
    as 64 bits of a hash: every row may have its own, and of ten million such rows two meet with a chance of 3 × 10⁻⁶.
    """

    def __init__(self, *, missing_apart: bool = False) -> None:
        self._missing_apart = missing_apart
        self._num_rows = 0
        self._parts: list[Keys] = [np.zeros(0, dtype=np.uint64)]

    def add(self, batch: pa.RecordBatch, column: str | None) -> None:
        if column is None:
            hashes = np.zeros(batch.num_rows, dtype=np.uint64)
        else:
            values = batch.column(column)
            hashes = _hashes(values)
            if self._missing_apart and values.null_count:
                missing = np.flatnonzero(np.asarray(values.is_null()))
                hashes[missing] = mixed((self._num_rows + missing).astype(np.uint64))
        self._num_rows += batch.num_rows
        self._parts.append(hashes)

    def array(self) -> Integers:
        """The numbers of all rows, once."""
        parts, self._parts = self._parts, []
        return numbered(np.concatenate(parts))


def _hashes(values: pa.Array) -> Keys:
    """A hash of each value as JSON; equal ones of a batch are looked at once, where Arrow knows them."""
    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        return np.array([_hash(value) for value in values.to_pylist()], dtype=np.uint64)
    found = values.dictionary_encode()
    distinct = [_hash(value) for value in (*found.dictionary.to_pylist(), None)]
    places = found.indices.fill_null(len(found.dictionary))
    taken: Keys = np.array(distinct, dtype=np.uint64)[np.asarray(places)]
    return taken


def _hash(value: object) -> int:
    name = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def check_size(step: str, wanted: int, num_rows: int) -> None:
    """Raise `RecipeError` where one part would be empty."""
    if 0 < wanted < num_rows:
        return
    part = "test" if wanted == 0 else "train"
    raise RecipeError(
        f"{step}: with {num_rows} rows and {wanted} of them for testing, the {part} part would be empty",
        "Give another `test_size` (a share below 1, or a number of rows), or more rows.",
    )


def write_parts(source: Rows, context: Context, in_test: npt.NDArray[np.bool_]) -> None:
    """Each row to its part, unchanged and in order."""
    with context.rows("train") as train, context.rows("test") as test:
        for writer in (train, test):
            writer.write_table(source.schema.empty_table())
        start = 0
        for batch in source.arrow_batches():
            mask = in_test[start : start + batch.num_rows]
            start += batch.num_rows
            table = pa.Table.from_batches([batch])
            for writer, part in ((train, ~mask), (test, mask)):
                if part.any():
                    writer.write_table(table.filter(pa.array(part)))
            context.progress(start, len(source))
            context.check_stop()
