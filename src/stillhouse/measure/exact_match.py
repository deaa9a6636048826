"""Exact match after a named normaliser."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from ..core.part import Part
from ..text.normalise import normalise
from .score import Score, expected_text


class ExactMatch(Part, tag="measure.exact_match/1"):
    """1 when reply and expected answer are the same text after `normaliser`, else 0.

    Undefined without an expected answer. `json` compares JSON by value: order of keys and spaces do not count, order in
    lists does.
    """

    normaliser: str = Field("strip", description="exact, strip, casefold, whitespace, json or number")
    column: str = Field("output", description="column with the expected answer")

    @field_validator("normaliser")
    @classmethod
    def _known(cls, name: str) -> str:
        normalise(name, "")  # raises for an unknown name
        return name

    @property
    def name(self) -> str:
        return f"exact match ({self.normaliser})"

    def __call__(self, item: Mapping[str, Any], reply: str) -> Score:
        expected = expected_text(item, self.column)
        if expected is None:
            return Score(None, "no expected answer")
        return Score(float(normalise(self.normaliser, expected) == normalise(self.normaliser, reply)))
