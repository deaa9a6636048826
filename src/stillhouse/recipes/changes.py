"""Changes to single steps of a recipe, by the step's name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from ..core.errors import RecipeError
from ..core.step import Step

S = TypeVar("S", bound=Step[Any])


class Changes:
    """Makes the steps of a recipe, each with the fields that the caller changed: `{"amplify": {"per_call": 20}}`.

    Names that no step of the recipe has are an error, with a suggestion.
    """

    def __init__(self, recipe: str, names: tuple[str, ...], changes: Mapping[str, Any]) -> None:
        for name, fields in changes.items():
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"Did you mean `{close[0]}`? " if close else ""
                raise RecipeError(
                    f"{recipe}: there is nothing called `{name}` to change", f"{hint}Steps: {', '.join(names)}."
                )
            if not isinstance(fields, Mapping):
                raise RecipeError(
                    f"{recipe}: `{name}` is {fields!r:.80}, expected the fields of a step by name",
                    f'For instance `{name}={{"field": value}}`.',
                )
        self._changes = changes

    def make(self, name: str, kind: type[S], **fields: Any) -> S:
        """The step, with its changes."""
        return kind(**{**fields, **self.of(name)})

    def of(self, name: str) -> Mapping[str, Any]:
        """The changed fields of one step."""
        found: Mapping[str, Any] = self._changes.get(name, {})
        return found
