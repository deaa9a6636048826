"""Replies that a user's function accepts."""

from collections.abc import Mapping
from typing import Any

from ..core.errors import RecipeError
from ..core.functions import Function
from ..core.part import Part
from .verdict import Verdict


class FunctionVerifier(Part, tag="measure.function_verifier/1"):
    """Asks `function(row, reply)`, which runs in this process.

    It returns True to accept, False or a text (the reason) to reject. An exception rejects with the exception as the
    reason: code that parses replies may simply fail. Anything else returned is a mistake in the function and raises
    `RecipeError`.
    """

    function: Function

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        try:
            answer = self.function(dict(item), reply)
        except Exception as error:
            text = str(error)
            return Verdict(False, f"{type(error).__name__}: {text}" if text else type(error).__name__)
        if isinstance(answer, str):
            return Verdict(False, answer)
        if isinstance(answer, bool) or type(answer).__name__ == "bool_":
            return Verdict(True) if answer else Verdict(False, "the verifier said no")
        name = getattr(self.function, "__qualname__", repr(self.function))
        raise RecipeError(
            f"the verifier `{name}` returned {answer!r:.80} ({type(answer).__name__})",
            "Return True to accept a reply, False or the reason as text to reject it.",
        )
