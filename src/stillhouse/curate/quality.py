"""Texts that follow rules."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Drop, Emit, Outcome, Row, content_of
from ..core.part import Part
from ..core.step import Mapper, MapStep
from ..rows.named import Columns
from ..rows.transform import missing_column
from .finding import Finding, TextCheck, plain_text
from .rule import Rule, RuleSet, TextMeasure, named_rules


class Quality(MapStep, tag="curate.quality/1"):
    """The rows whose text passes all `rules`; the others are dropped with the rule, the measured value and its bound.

    A rule is a `Rule`, a `Language`, a `NoPii`, any part with a `check(text)`, or the name of a set: `gopher`,
    `gopher_repetition`, `c4` (what it says of whole pages) or `fineweb`. The reason is the first rule that is broken;
    the detail names them all.
    """

    chooses: ClassVar[bool] = True

    columns: Columns
    """What is looked at; several columns count as one text."""
    rules: tuple[Part | RuleSet, ...] = Field(min_length=1)

    @field_validator("rules", mode="before")
    @classmethod
    def _spelt_out(cls, value: Any) -> Any:
        given = value if isinstance(value, list | tuple) else (value,)
        found: list[Any] = []
        for one in given:
            found += named_rules(one) if isinstance(one, str) else [one]
        for one in found:
            if isinstance(one, Part) and not isinstance(one, TextCheck):
                raise ValueError(f"`{type(one).__name__}` is no rule about a text: it has no `check`")
        return tuple(found)

    def mapper(self, context: Context) -> Mapper:
        have = context.get(self.rows).columns
        for name in self.columns:
            if have and name not in have:
                raise missing_column("Quality", name, have)
        return lambda rows: [self._outcome(row) for row in rows]

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """How many rows each reason dropped."""
        from ._reasons import dropped_by_reason

        return {"dropped_by": dropped_by_reason(made)}

    def _outcome(self, row: Row) -> Outcome:
        found = self.findings("\n".join(plain_text(row[name]) for name in self.columns))
        if not found:
            return KEEP
        first, *others = found
        told = [first.detail, *(str(other) for other in others)]
        return Drop(first.reason, "; ".join(part for part in told if part) or None)

    def findings(self, text: str) -> list[Finding]:
        """What the rules have against a text, in their order."""
        from ._text_measures import TextFacts

        facts = TextFacts(text)
        found = []
        for rule in self.rules:
            if isinstance(rule, Rule):
                found.append(rule.finding(facts.measured(rule)))
            else:
                check: Any = rule  # a `TextCheck`, as the validator has seen; names of sets are spelt out by then
                found.append(check.check(text))
        return [one for one in found if one is not None]


class MeasureText(MapStep, tag="curate.measure_text/1"):
    """The same rows with a column of numbers for each of `measures` (see `Rule`): a look before you choose."""

    column: str
    measures: tuple[TextMeasure, ...] = Field(min_length=1)

    def mapper(self, context: Context) -> Mapper:
        have = context.get(self.rows).columns
        if have and self.column not in have:
            raise missing_column("MeasureText", self.column, have)
        taken = [name for name in self.measures if name in have]
        if taken:
            raise RecipeError(f"MeasureText: there is a column `{taken[0]}` already", "Rename it first.")
        if "phrases" in self.measures:
            raise RecipeError("MeasureText: `phrases` says not which", "Use a `Rule` with `of`, or `Map`.")
        return self._measured

    def _measured(self, rows: Sequence[Row]) -> list[Outcome]:
        from ._text_measures import TextFacts

        rules = [Rule(measure=name, at_least=0) for name in self.measures]
        outcomes: list[Outcome] = []
        for row in rows:
            facts = TextFacts(plain_text(row[self.column]))
            values: dict[str, float] = {rule.measure: facts.measured(rule) for rule in rules}
            outcomes.append(Emit([{**content_of(row), **values}]))
        return outcomes
