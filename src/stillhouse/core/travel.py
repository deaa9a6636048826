"""A step on its way to another process: itself with its fields, its inputs by their keys.

The artifacts of the inputs are there, so what they were made from need not be told and may be what cannot travel: a
lambda, a function of a notebook, a million rows given as data. Models alone are described, as far as they can be: how a
training goes may depend on what its base is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .artifact import Files, Model, Report, Rows, Tokens
from .errors import RecipeError
from .serial import Writer, read_nodes
from .step import KeyBook, Step


class GivenRows(Step[Rows], tag="core.given_rows/1"):
    """Rows that are there, by the key of their recipe."""

    key: str


class GivenTokens(Step[Tokens], tag="core.given_tokens/1"):
    """Tokens that are there."""

    key: str


class GivenModel(Step[Model], tag="core.given_model/1"):
    """A model that is there."""

    key: str


class GivenFiles(Step[Files], tag="core.given_files/1"):
    """Files that are there."""

    key: str


class GivenReport(Step[Report], tag="core.given_report/1"):
    """A report that is there."""

    key: str


GIVEN: Mapping[str, type[Any]] = {
    kind.makes().kind: kind for kind in (GivenRows, GivenTokens, GivenModel, GivenFiles, GivenReport)
}


class _Packer(Writer):
    """Writes one step; remembers the recipe key of each node."""

    def __init__(self, book: KeyBook) -> None:
        super().__init__()
        self.keys: dict[str, str] = {}
        self._book = book
        self._home: Step[Any] | None = None

    def step(self, step: Step[Any]) -> str:
        self._home = self._home or step
        mention = super().step(step)
        self.keys[mention[1:]] = self._book.recipe(step)
        return mention

    def step_fields(self, step: Step[Any]) -> dict[str, Any]:
        if step is self._home:
            return self.fields(step)
        if type(step).makes() is Model:
            try:
                return self.fields(step)
            except RecipeError:
                pass
        given = GIVEN[type(step).makes().kind](key=self._book.recipe(step))
        return self.fields(given)


def packed(step: Step[Any], book: KeyBook) -> dict[str, Any]:
    """The step as JSON values. Raises `RecipeError` where it holds what cannot be named in another process."""
    packer = _Packer(book)
    try:
        result = packer.step(step)
    except RecipeError as error:
        message = f"`{type(step).__name__}` runs in a process of its own, and {error.message}"
        raise RecipeError(message, error.hint) from None
    return {"nodes": packer.nodes, "result": result, "keys": packer.keys}


def unpacked(pack: Mapping[str, Any]) -> tuple[Step[Any], KeyBook]:
    """The step, and a book that knows the keys of its inputs but not its own."""
    book = KeyBook()
    name = pack["result"][1:]
    nodes = read_nodes(pack["nodes"], name)
    for each, node in nodes.items():
        if each != name and isinstance(node, Step):
            book.know(node, pack["keys"][each])
    step = nodes[name]
    assert isinstance(step, Step)
    return step, book
