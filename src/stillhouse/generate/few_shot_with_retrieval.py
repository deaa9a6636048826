"""Inputs answered after the examples that are nearest to them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.artifact import Files, Model
from ..core.context import Context
from ..core.plan import Expectation
from ..core.step import Mapper, MapStep, Step
from ..text.schema import Schema
from .checks import Asked, Column, Instruction, check_samples, check_shown, check_unpack
from .expectation import expected
from .output import with_layout
from .retrieve import expected_search, with_search

if TYPE_CHECKING:
    from ..core.session import Session


class FewShotWithRetrieval(MapStep, tag="generate.few_shot_with_retrieval/1"):
    """As `FewShot`, with the examples of `index` that are nearest to each row, the nearest last, beside the input.

    The index is over rows with the columns `input` and `answer`; its own column says what is compared with the row's
    `input`. Of the `candidates` nearest those that fit are shown: at most `most`, within `tokens` or the model's
    window, as `FewShot` says. A row is never its own example, nor one of the same input and answer. Parents of a row
    are the row itself and the examples it was shown.
    """

    by: Asked
    index: Step[Files]
    instruction: Instruction | None = None
    input: str = Field("input", min_length=1)
    answer: str = Field("output", min_length=1, description="the column in which the examples have their outputs")
    column: Column = "output"
    least: int = Field(1, ge=0)
    most: int = Field(4, ge=0)
    candidates: int | None = Field(None, ge=1, description="looked at to find `most` that fit; None: twice as many")
    tokens: int | None = Field(None, ge=1, description="of the whole question at most; None: by the window")
    tokenizer: Step[Files] | Step[Model] | None = Field(None, description="a tokenizer's folder, or a model with one")
    input_label: str = "Input:"
    output_label: str = "Output:"
    separator: str = "\n\n"
    nearest_last: bool = True
    response: Schema | None = None
    unpack: bool = False
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _whole(self) -> "FewShotWithRetrieval":
        check_samples(self.by, self.samples)
        check_unpack(self.response, self.unpack)
        check_shown(self.least, self.most, self.tokens, self.tokenizer, self.candidates)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The input, and what the instruction reads."""
        from .template import columns_read

        return (self.input, self.answer, *columns_read(self.instruction))

    def mapper(self, context: Context) -> Mapper:
        from ._with_retrieval import shower

        return shower(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> Expectation:
        """A look-up for each row, a call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        prompt = len(self.instruction or "") + 300 * (self.most + 1)
        prompt = prompt if self.tokens is None else min(prompt, 4 * self.tokens)
        asked = expected(self.by, session, rows=rows, calls=rows, prompt=prompt, reply=400)
        return with_search(asked, expected_search(self.index, session, rows_in))
