"""Replies that a user's function accepts."""

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import field_validator

from ..core.errors import RecipeError
from ..core.functions import Function
from ..core.part import Part
from .verdict import Verdict

VERIFIER = "def verify(row, reply)"


class FunctionVerifier(Part, tag="measure.function_verifier/1"):
    """Asks `function(row, reply)`, which runs in this process.

    It returns True to accept, False or a text (the reason) to reject. An exception rejects with the exception as the
    reason: code that parses replies may simply fail. Anything else returned is a mistake in the function and raises
    `RecipeError`.
    """

    function: Function

    @field_validator("function")
    @classmethod
    def _takes_both(cls, function: Any) -> Any:
        if not takes(function, 2):
            raise ValueError(f"`{name_of(function)}` does not take a row and its reply: write it as `{VERIFIER}`")
        return function

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        try:
            answer = self.function(dict(item), reply)
        except Exception as error:
            text = str(error)
            return Verdict(False, f"{type(error).__name__}: {text}" if text else type(error).__name__)
        if isinstance(answer, str):
            return Verdict(False, answer)
        if type(answer).__name__ in ("bool", "bool_"):  # numpy's has the one name or the other
            return Verdict(True) if answer else Verdict(False, "the verifier said no")
        raise RecipeError(
            f"the verifier `{name_of(self.function)}` returned {answer!r:.80} ({type(answer).__name__})",
            "Return True to accept a reply, False or the reason as text to reject it.",
        )


def takes(function: Any, num_arguments: int) -> bool:
    """Whether it can be called with so many arguments; True where Python cannot tell, as for some built-ins."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(num_arguments))
    except TypeError:
        return False
    return True


def name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", repr(function)))
