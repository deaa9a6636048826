"""Replies that come to the right number."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from ..core.part import Part
from ..text.numbers import Number, the_number
from .score import expected_value
from .verdict import Verdict


class NumberVerifier(Part, tag="measure.number_verifier/1"):
    """Accepts replies whose number equals the expected one in `column`, read as `text.numbers` reads: thousands,
    fractions, exponents, percent, currencies, LaTeX.

    `where` says which number of a reply counts: the `marked` one (`\\boxed{}`, `####`, `answer is`), else the last;
    always the `last`; or `only` that of a reply which is nothing else. The two may differ by `absolute`, or by
    `relative` times the expected one. Where one of them alone has a percent sign, `50 %` equals 50 and 0.5 alike, or
    with `percent="hundredths"` 0.5 alone. `units="compare"` asks for the expected unit too.
    """

    column: str = "output"
    where: Literal["marked", "last", "only"] = "marked"
    absolute: float = Field(0.0, ge=0)
    relative: float = Field(1e-9, ge=0)
    percent: Literal["either", "hundredths"] = "either"
    units: Literal["ignore", "compare"] = "ignore"
    decimal: Literal[".", ","] = "."

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        wanted = self._expected(expected_value(item, self.column))
        if wanted is None:
            return Verdict(False, f"there is no number in `{self.column}` to hold it against")
        found = the_number(reply, self.where, self.decimal)
        if found is None:
            return Verdict(
                False, "the reply is more than a number" if self.where == "only" else "it comes to no number"
            )
        if not self._equal(found, wanted):
            return Verdict(False, f"it comes to {found.text}, not {wanted.text}")
        if self.units == "compare" and wanted.unit is not None and found.unit != wanted.unit:
            return Verdict(False, f"its unit is `{found.unit or 'none'}`, not `{wanted.unit}`")
        return Verdict(True)

    def _expected(self, value: Any) -> Number | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                # A float is what its shortest text says: 0.1, not the binary number next to it.
                return Number(Fraction(repr(value)), f"{value:g}")
            except ValueError:  # nan and infinity
                return None
        return the_number(str(value), "marked", self.decimal) if value is not None else None

    def _equal(self, found: Number, wanted: Number) -> bool:
        if found.percent == wanted.percent:
            pairs = [(found.value, wanted.value)]
        else:
            as_share = (
                found.value / 100 if found.percent else found.value,
                wanted.value / 100 if wanted.percent else wanted.value,
            )
            pairs = [as_share] if self.percent == "hundredths" else [as_share, (found.value, wanted.value)]
        return any(self._near(one, other) for one, other in pairs)

    def _near(self, found: Fraction, wanted: Fraction) -> bool:
        allowed = max(Fraction(self.absolute), Fraction(self.relative) * abs(wanted))
        return abs(found - wanted) <= allowed
