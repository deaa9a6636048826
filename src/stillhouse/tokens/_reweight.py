"""The work behind `reweight`: from rows with weights to a weight for each document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from .store import TokenStore, reweighted_store, weights_of

if TYPE_CHECKING:
    from .reweight import Reweight


def reweight(step: Reweight, context: Context) -> None:
    """Run the step `Reweight`."""
    store = TokenStore(context.get(step.tokens).data)
    table = _table(step, context.get(step.weights))
    values = _values(step, table)
    known = pa.chunked_array([docs.column("row_id") for docs in store.docs], pa.string())
    found = _named(table, step.row) if step.row is not None else _by_lineage(table, known)
    named: dict[str, float] = {}
    for row_id, place in found:
        if named.setdefault(row_id, values[place]) != values[place]:
            raise RecipeError(
                f"Reweight: row {row_id} is given two weights, {named[row_id]:g} and {values[place]:g}",
                "Give each row one weight.",
            )
    if not named:
        raise RecipeError(
            "Reweight: none of the rows with weights was made from a row of these tokens",
            "Name the column that holds the ids of tokenised rows with `row`.",
        )
    here = pc.is_in(pa.array([row_id for row_id, _ in found], pa.string()), value_set=known).to_pylist()
    unknown = len(table) - len({place for (_, place), tokenised in zip(found, here, strict=True) if tokenised})
    weights = weights_of(store, [*named], [*named.values()], others=step.others)
    made = reweighted_store(store, weights, context.folder)
    before = np.ones(len(weights), np.float32) if store.example_weights is None else store.example_weights
    context.note(
        documents=store.num_documents,
        changed=int(np.count_nonzero(weights != before)),
        without_weight=int(np.count_nonzero(weights == 0)),
        sum_of_weights=float(weights.sum(dtype=np.float64)),
        learnt=made.num_learnt,
        **({"unknown": unknown} if unknown else {}),
    )
    if unknown:
        context.warn(f"{unknown} of {len(table)} rows with a weight speak of no row of these tokens and change nothing")


def _table(step: Reweight, rows: Rows) -> pa.Table:
    wanted = [step.column, *([step.row] if step.row is not None else [])]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        raise RecipeError(f"Reweight: the rows have no column `{missing[0]}`", f"Theirs: {', '.join(rows.columns)}.")
    names = [*wanted, *(["_id", "_parents"] if step.row is None else [])]
    batches = [batch.select(names) for batch in rows.arrow_batches()]
    if not sum(len(batch) for batch in batches):
        raise RecipeError("Reweight: there are no rows with weights", "The step before made none; see its record.")
    return pa.Table.from_batches(batches).combine_chunks()


def _values(step: Reweight, table: pa.Table) -> list[float]:
    column = table.column(step.column)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or column.null_count:
        kind = f"{column.null_count} empty values" if column.null_count else f"values of type {column.type}"
        raise RecipeError(f"Reweight: the column `{step.column}` holds {kind}", "Weights are numbers of 0 or more.")
    found: list[float] = column.cast(pa.float64()).to_pylist()
    return found


def _named(table: pa.Table, column: str) -> list[tuple[str, int]]:
    if not pa.types.is_string(table.column(column).type):
        raise RecipeError(f"Reweight: the column `{column}` holds no row ids", "Row ids are texts of 24 digits.")
    ids: list[Any] = table.column(column).to_pylist()
    return [(row_id, place) for place, row_id in enumerate(ids) if row_id is not None]


def _by_lineage(table: pa.Table, known: pa.ChunkedArray) -> list[tuple[str, int]]:
    """Each row under its own id where that was tokenised, else under the parents that were."""
    own = table.column("_id")
    here = pc.is_in(own, value_set=known).to_pylist()
    found = [(row_id, place) for place, row_id in enumerate(own.to_pylist()) if here[place]]
    parents = table.column("_parents").combine_chunks()
    flat, places = pc.list_flatten(parents), pc.list_parent_indices(parents).to_pylist()
    there = pc.is_in(flat, value_set=known).to_pylist()
    return found + [
        (row_id, place)
        for row_id, place, tokenised in zip(flat.to_pylist(), places, there, strict=True)
        if tokenised and not here[place]
    ]
