"""Questions answered from what was retrieved for them."""

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

INSTRUCTION = (
    "Answer the question by the passages below and by nothing else. Name the numbers of the passages that you use, "
    "such as [2]. If they do not answer it, say so."
)


class RAG(MapStep, tag="generate.rag/1"):
    """Shows the passages of `index` that are nearest to each row's `question`, asks, and adds the reply as `column`.

    The passages are the column `text` of the index, each with its number: `[1] …`. Of the `candidates` nearest those
    that fit are shown, the nearest first: at most `most`, and so that the whole question keeps within `tokens` or the
    model's window, counted as `FewShot` counts. A row for which fewer than `least` fit into `tokens` fails as
    `too_long`; one for which fewer are near enough (`near`) fails as `empty`. Neither is asked.

    `sources` holds the ids of the passages that were shown, by number; they are parents of the row.
    """

    by: Asked
    index: Step[Files]
    question: str = Field("question", min_length=1)
    text: str = Field("text", min_length=1, description="the column of the index that is shown")
    instruction: Instruction = INSTRUCTION
    column: Column = "answer"
    sources: Column = "sources"
    least: int = Field(1, ge=0)
    most: int = Field(5, ge=1)
    near: float | None = Field(None, description="passages with a lower score are not shown")
    candidates: int | None = Field(None, ge=1, description="looked at to find `most` that fit; None: twice as many")
    tokens: int | None = Field(None, ge=1, description="of the whole question at most; None: by the window")
    tokenizer: Step[Files] | Step[Model] | None = Field(None, description="a tokenizer's folder, or a model with one")
    question_label: str = "Question:"
    answer_label: str = "Answer:"
    separator: str = "\n\n"
    response: Schema | None = None
    unpack: bool = False
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _whole(self) -> "RAG":
        check_samples(self.by, self.samples)
        check_unpack(self.response, self.unpack)
        check_shown(self.least, self.most, self.tokens, self.tokenizer, self.candidates)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The question, and what the instruction reads."""
        from .template import columns_read

        return (self.question, *columns_read(self.instruction))

    def mapper(self, context: Context) -> Mapper:
        from ._with_retrieval import reader

        return reader(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> Expectation:
        """A look-up for each row, a call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        prompt = len(self.instruction) + 1000 * self.most + 200
        prompt = prompt if self.tokens is None else min(prompt, 4 * self.tokens)
        asked = expected(self.by, session, rows=rows, calls=rows, prompt=prompt, reply=400)
        return with_search(asked, expected_search(self.index, session, rows_in))
