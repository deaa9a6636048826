"""The one way to ask a verifier: about each of many replies."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from ..core.errors import RecipeError
from ..core.part import Part
from .function_verifier import FunctionVerifier
from .verdict import ManyVerifier, Verdict


def as_verifier(value: Any) -> Any:
    """A function of a row and its reply, or the name of one, as the part it is; anything else as it stands."""
    if isinstance(value, Part) or not (callable(value) or isinstance(value, str)):
        return value
    return FunctionVerifier(function=value)


Verifying = Annotated[Part, BeforeValidator(as_verifier)]
"""Field type: a verifier part, or a function of a row and its reply that returns True, False or the reason against."""


def verdicts(verifier: Part, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]:
    """What a verifier says of each row and reply, in order.

    Raises `RecipeError` for a part that gives something else than verdicts.
    """
    if isinstance(verifier, ManyVerifier):
        return verifier.many(pairs)
    found: list[Verdict] = []
    for row, reply in pairs:
        verdict = verifier(row, reply)  # type: ignore[operator]
        if not isinstance(verdict, Verdict):
            raise RecipeError(
                f"`{type(verifier).__name__}` returned {verdict!r:.80}, not a verdict",
                "Give a verifier: a part that takes a row and its reply and returns a `Verdict`, or a function. "
                "`MetricVerifier(metric=…)` makes one of a metric.",
            )
        found.append(verdict)
    return found
