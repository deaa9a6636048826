"""Vectors of the rows of a chunk in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.embedder import Embedder, Role
from ..calls.embedding import Vectors
from ..calls.nearest import DIGITS, Floats, cosines
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Outcome, Row
from ._asking import AsyncMapper, failed, refuse_taken, text_of
from ._vectors import check_columns, is_vectors, vector_of

if TYPE_CHECKING:
    from .embed import CosineSimilarity, Embed


def embedder(step: Embed, context: Context) -> AsyncMapper:
    """The mapper of `Embed`."""
    rows, calls = context.get(step.rows), context.calls
    check_columns("Embed", rows, [step.column])
    refuse_taken("Embed", rows, step.into, "Give another name in `into`.")

    async def embed(rows: Sequence[Row]) -> list[Outcome]:
        found = await vectors_of("Embed", rows, step.column, calls, step.by, step.role)
        outcomes: list[Outcome] = []
        for place, row in enumerate(rows):
            fault = found.faults.get(place)
            if fault is not None:
                outcomes.append(failed(fault))
            else:
                outcomes.append(Emit(({**row, step.into: found.array[place]},), found.calls(place)))
        return outcomes

    return embed


def comparer(step: CosineSimilarity, context: Context) -> AsyncMapper:
    """The mapper of `CosineSimilarity`."""
    rows, calls = context.get(step.rows), context.calls
    check_columns("CosineSimilarity", rows, [step.left, step.right])
    refuse_taken("CosineSimilarity", rows, step.into, "Give another name in `into`.")
    for column in (step.left, step.right):
        if step.by is None and not is_vectors(rows, column):
            raise RecipeError(
                f"CosineSimilarity: the column `{column}` holds no vectors, and no embedder is given",
                "Say by whom texts become vectors: `by=Embedder(model=…)`.",
            )

    async def side(some: Sequence[Row], column: str, role: Role) -> Vectors:
        if is_vectors(rows, column):
            return given_vectors(some, column)
        return await vectors_of("CosineSimilarity", some, column, calls, step.by, role)

    async def compare(some: Sequence[Row]) -> list[Outcome]:
        left = await side(some, step.left, "document" if step.symmetrical else "query")
        right = await side(some, step.right, "document")
        check_widths("CosineSimilarity", left.array, right.array, step.left, step.right)
        both = cosines(left.array.astype(np.float64), right.array.astype(np.float64))
        outcomes: list[Outcome] = []
        for place, row in enumerate(some):
            fault = left.faults.get(place) or right.faults.get(place)
            if fault is not None:
                outcomes.append(failed(fault))
                continue
            cosine = round(float(both[place]), DIGITS) + 0.0
            asked = tuple(dict.fromkeys((*left.calls(place), *right.calls(place))))
            outcomes.append(Emit(({**row, step.into: cosine},), asked))
        return outcomes

    return compare


async def vectors_of(
    step: str, rows: Sequence[Row], column: str, calls: Any, by: Embedder | None, role: Role
) -> Vectors:
    """Vectors of the texts in `column`; rows without a text have a fault."""
    texts: list[str] = []
    owners: list[int] = []
    faults: dict[int, RowFault] = {}
    for place, row in enumerate(rows):
        try:
            texts.append(text_of(step, row, column))
            owners.append(place)
        except RowFault as fault:
            faults[place] = fault
    made: Vectors = await calls.vectors(by, texts, role)
    array = np.zeros((len(rows), made.array.shape[1]), np.float32)
    array[owners] = made.array
    keys = [""] * len(rows) if made.keys else []
    for place, key in zip(owners, made.keys, strict=bool(made.keys)):
        keys[place] = key
    return Vectors(array, keys, faults | {owners[place]: fault for place, fault in made.faults.items()})


def given_vectors(rows: Sequence[Row], column: str) -> Vectors:
    """The vectors that stand in `column`; rows without one, or with one of another width, have a fault."""
    found: list[Floats | None] = []
    faults: dict[int, RowFault] = {}
    for place, row in enumerate(rows):
        try:
            found.append(vector_of(row, column))
        except RowFault as fault:
            found.append(None)
            faults[place] = fault
    width = next((len(vector) for vector in found if vector is not None), 0)
    array = np.zeros((len(rows), width), np.float32)
    for place, vector in enumerate(found):
        if vector is not None and len(vector) != width:
            faults[place] = RowFault("invalid", f"`{column}` holds {len(vector)} numbers, other rows have {width}")
        elif vector is not None:
            array[place] = vector
    return Vectors(array, [], faults)


def check_widths(step: str, left: Floats, right: Floats, left_name: str, right_name: str) -> None:
    """Raise `RecipeError` where two sets of vectors cannot be compared."""
    if left.shape[1] and right.shape[1] and left.shape[1] != right.shape[1]:
        raise RecipeError(
            f"{step}: the vectors of `{left_name}` have {left.shape[1]} numbers, those of `{right_name}` "
            f"{right.shape[1]}",
            "Vectors of one model can be compared, those of two cannot.",
        )
