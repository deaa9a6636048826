"""Inputs answered after examples."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ..core.artifact import Files, Model, Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..text.schema import Schema
from .checks import Asked, Column, Instruction, check_samples, check_shown, check_unpack
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class FewShot(MapStep, tag="generate.few_shot/1"):
    """Shows examples with their outputs, then the row's `input`, and adds the reply as `column`.

    Of the `examples` (rows with the columns `input` and `answer`) as many are shown as fit: at most `most`, and so that
    the whole question keeps within `tokens`. An example that alone is too long is passed over for the next; a row for
    which fewer than `least` fit fails as `too_long`, before anything is asked. Tokens are counted by `tokenizer`, or
    estimated on the careful side: a token for each three bytes of UTF-8. What a chat template adds is not counted.

    Without `tokens` the question keeps within the context window of `by`, where that is known (`calls.windows`: models
    that providers serve by their name, folders by their configuration), less `max_tokens` for the reply (1,024, or a
    quarter of the window, where it is not given), the schema, the tools and what chat templates add. A model in a
    folder counts by its own tokenizer, all others are estimated. That leaves examples out and fails no row: `least` are
    always shown, and what is too long then is the model's to say. Of models behind an `endpoint` or a `deployment`, of
    GGUF files and of names that are not in the table the window is unknown, and `most` are shown.

    `choose` says which come first: `first` in the order of the table; `random`, drawn for each row by `seed`;
    `round_robin`, where each row begins after the examples that the row before it began with, so that all are shown
    equally often. A row is never its own example. With `turns` the question is a conversation, in which each example is
    a message of the user and the assistant's answer; labels are not written then.
    """

    by: Asked
    examples: Step[Rows]
    instruction: Instruction | None = None
    input: str = Field("input", min_length=1)
    answer: str = Field("output", min_length=1, description="the column in which the examples have their outputs")
    column: Column = "output"
    choose: Literal["first", "random", "round_robin"] = "first"
    seed: int = 0
    least: int = Field(1, ge=0)
    most: int = Field(8, ge=0)
    tokens: int | None = Field(None, ge=1, description="of the whole question at most; None: by the window")
    tokenizer: Step[Files] | Step[Model] | None = Field(None, description="a tokenizer's folder, or a model with one")
    turns: bool = False
    input_label: str = "Input:"
    output_label: str = "Output:"
    separator: str = "\n\n"
    response: Schema | None = None
    unpack: bool = False
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _whole(self) -> "FewShot":
        check_samples(self.by, self.samples)
        check_unpack(self.response, self.unpack)
        check_shown(self.least, self.most, self.tokens, self.tokenizer)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The input and what the instruction reads; the examples too may be drawn for each row, by its id or place."""
        from .template import columns_read

        return (self.input, self.answer, *columns_read(self.instruction), *(() if self.choose == "first" else ("_id",)))

    def mapper(self, context: Context) -> Mapper:
        from ._few_shot import shower

        return shower(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        prompt = len(self.instruction or "") + 300 * (self.most + 1)
        prompt = prompt if self.tokens is None else min(prompt, 4 * self.tokens)
        return expected(self.by, session, rows=rows, calls=rows, prompt=prompt, reply=400)
