"""Held-out rows and the replies that models gave to them, brought side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.artifact import Rows
from ..core.errors import RecipeError
from ..core.outcome import Row
from ..text.ngrams import words


@dataclass(slots=True)
class Reply:
    """What a model gave for one item; `error` is None for an answer, else what went wrong with the generation."""

    text: str = ""
    finish: str = ""
    error: str | None = "missing"


@dataclass(slots=True)
class Items:
    """The rows of the test set in order, and for each model one `Reply` a row."""

    rows: list[Row]
    input_column: str
    output_column: str
    """Where the question and the expected answer stand."""
    replies: dict[str, list[Reply]] = field(default_factory=dict)


def load_items(on: Rows, input_column: str, output_column: str) -> tuple[Items, dict[str, int]]:
    """The rows, and the places of all ids by which a prediction may name one: its own and its parents'."""
    rows: list[Row] = []
    places: dict[str, int] = {}
    shared: set[str] = set()
    for batch in on.batches(lineage=True):
        for row in batch:
            for parent in row.pop("_parents", None) or ():
                if parent in places:
                    shared.add(parent)
                places.setdefault(parent, len(rows))
            row.pop("_calls", None)
            rows.append(row)
    for place, row in enumerate(rows):
        places[row["_id"]] = place
    own = {row["_id"] for row in rows}
    for parent in shared - own:
        del places[parent]  # it names several rows, so it names none
    return Items(rows, input_column, output_column), places


def add_predictions(items: Items, places: Mapping[str, int], name: str, predictions: Rows) -> None:
    """Find the item of each prediction: by lineage, or, for rows from elsewhere, by the words of the question.

    Raises `RecipeError` when predictions belong to other rows, or give two replies to one item.
    """
    found = [Reply() for _ in items.rows]
    taken: dict[int, str] = {}
    strangers: list[str] = []
    wordings: dict[str, int] | None = None
    for batch in predictions.batches(lineage=True):
        for row in batch:
            if "reply" not in row:
                columns = ", ".join(f"`{column}`" for column in predictions.columns)
                raise RecipeError(f"the predictions of `{name}` have no column `reply`", f"There are {columns}.")
            place = _by_lineage(row, places)
            if place is None:
                wordings = _wordings(items.rows, items.input_column) if wordings is None else wordings
                place = wordings.get(_wording(row[items.input_column])) if items.input_column in row else None
            if place is None:
                strangers.append(row["_id"])
            elif place in taken:
                raise RecipeError(
                    f"`{name}` has two replies to the item {items.rows[place]['_id']}: {taken[place]} and {row['_id']}"
                )
            else:
                taken[place] = row["_id"]
                found[place] = _reply(row)
    if strangers:
        raise RecipeError(
            f"{len(strangers)} predictions of `{name}` belong to no row of `on` (the first: {strangers[0]})",
            "Predict the same rows that are compared on: `Predict(rows=on, ...)`.",
        )
    for row in predictions.failed():
        place = places.get(row["_id"] or "")
        if place is not None and place not in taken:
            found[place] = Reply(row.get("raw") or "", "", "failed")
    items.replies[name] = found


def shown(items: Items, place: int) -> dict[str, Any]:
    """A row for a reader: its id, the question (of messages the last one of the user) and the expected answer."""
    row = items.rows[place]
    asked = row.get(items.input_column, row.get("messages"))
    if isinstance(asked, list) and all(isinstance(message, Mapping) for message in asked):
        asked = next((message.get("content") for message in reversed(asked) if message.get("role") == "user"), None)
    return {"item": row["_id"], "input": as_text(asked), "expected": as_text(row.get(items.output_column))}


def as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _reply(row: Row) -> Reply:
    text = as_text(row["reply"])
    error = row.get("error") or ("empty" if text is None else None)
    return Reply(text or "", row.get("finish") or "stop", error)


def _by_lineage(row: Row, places: Mapping[str, int]) -> int | None:
    return next((places[key] for key in (*(row.get("_parents") or ()), row["_id"]) if key in places), None)


def _wordings(rows: Iterable[Row], column: str) -> dict[str, int]:
    """Place of each item by the words of its question; a wording that stands twice names none."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    for place, row in enumerate(rows):
        if column in row:
            key = _wording(row[column])
            if key in found:
                twice.add(key)
            found[key] = place
    return {key: place for key, place in found.items() if key not in twice}


def _wording(question: object) -> str:
    return " ".join(words(str(question)))
