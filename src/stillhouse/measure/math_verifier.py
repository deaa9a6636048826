"""Replies that come to the right formula."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from ..core.errors import RecipeError
from ..core.part import Part
from .limits import Limits
from .score import expected_text
from .verdict import Verdict


class MathVerifier(Part, tag="measure.math_verifier/1"):
    """Accepts replies whose mathematical answer equals the expected one in `column`: formulas, roots, sets, intervals,
    equations, matrices, in LaTeX or plainly.

    Reading and comparing is math-verify's (`pip install 'stillhouse[math]'`), which asks sympy; `digits` is how many
    decimals of a float count. Computer algebra may think for hours over a hostile formula, so it is done in other
    processes, under `limits`. Plain numbers are quicker with `NumberVerifier`, which needs no library.
    """

    column: str = "output"
    digits: int = Field(6, ge=0)
    limits: Limits = Limits(seconds=30.0, cpu_seconds=10)

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        return self.many([(item, reply)])[0]

    def many(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]:
        """The verdicts of many, several at once."""
        from importlib.util import find_spec

        from ._sandbox import Home, call_function

        if find_spec("math_verify") is None:
            raise RecipeError("`MathVerifier` needs math-verify", "Install it: `pip install 'stillhouse[math]'`.")
        asked = [
            ({"expected": expected_text(item, self.column), "digits": self.digits}, reply) for item, reply in pairs
        ]
        found = call_function(Home("stillhouse.measure._symbolic:same"), asked, self.limits)
        return [
            Verdict(one.said is True, one.reason or (one.said if isinstance(one.said, str) else None)) for one in found
        ]
