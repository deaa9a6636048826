"""Replies that a user's function accepts."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from ..core.errors import RecipeError
from ..core.functions import Function, reference
from ..core.part import Part
from .limits import Limits
from .verdict import Verdict

if TYPE_CHECKING:
    from ._sandbox import Found, Home

VERIFIER = "def verify(row, reply)"


class FunctionVerifier(Part, tag="measure.function_verifier/1"):
    """Asks `function(row, reply)`, which returns True to accept, False or a text (the reason) to reject.

    An exception rejects with the exception as the reason: code that parses replies may simply fail. Anything else
    returned is a mistake in the function and raises `RecipeError`. The function runs in this process, or with `limits`
    in others, which are kept from doing harm and ended when they take too much; there it is one of a module, or of the
    script that runs.
    """

    function: Function
    limits: Limits | None = None

    @field_validator("function")
    @classmethod
    def _takes_both(cls, function: Any) -> Any:
        if not takes(function, 2):
            raise ValueError(f"`{name_of(function)}` does not take a row and its reply: write it as `{VERIFIER}`")
        return function

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        if self.limits is not None:
            return self.many([(item, reply)])[0]
        try:
            answer = self.function(dict(item), reply)
        except Exception as error:
            text = str(error)
            return Verdict(False, f"{type(error).__name__}: {text}" if text else type(error).__name__)
        if type(answer).__name__ in ("bool", "bool_"):  # numpy's has the one name or the other
            answer = bool(answer)
        return self._verdict(answer, f"{answer!r:.80} ({type(answer).__name__})")

    def many(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]:
        """The verdicts of many, several at once where there are `limits`."""
        if self.limits is None:
            return [self(item, reply) for item, reply in pairs]
        from ._sandbox import call_function

        found = call_function(home_of(self.function), [(dict(item), reply) for item, reply in pairs], self.limits)
        return [self._told(one) for one in found]

    def _told(self, found: "Found") -> Verdict:
        if found.reason is not None:
            return Verdict(False, found.reason)
        return self._verdict(found.said, str(found.instead))

    def _verdict(self, answer: object, shown: str) -> Verdict:
        if isinstance(answer, str):
            return Verdict(False, answer)
        if isinstance(answer, bool):
            return Verdict(True) if answer else Verdict(False, "the verifier said no")
        raise RecipeError(
            f"the verifier `{name_of(self.function)}` returned {shown}",
            "Return True to accept a reply, False or the reason as text to reject it.",
        )


def home_of(function: Any) -> "Home":
    """Where another process finds a function. Raises `RecipeError` for one that cannot be named there."""
    from ._sandbox import Home

    name = str(getattr(function, "__qualname__", ""))
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if getattr(function, "__module__", None) == "__main__" and script is not None and "<" not in name:
        return Home(f"__mp_main__:{name}", str(script), function)
    return Home(reference(function), None, function)


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
