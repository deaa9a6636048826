"""Many new instructions from a few."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Grower, GrowStep, Step
from .checks import Asked, Column
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

UNSEEN = (
    "image",
    "images",
    "picture",
    "pictures",
    "graph",
    "graphs",
    "diagram",
    "flowchart",
    "plot",
    "draw",
    "map",
    "maps",
    "file",
    "files",
    "video",
    "audio",
    "music",
    "go to",
)
"""Words of instructions that a model which reads and writes text alone cannot follow."""


class SelfInstruct(GrowStep, tag="generate.self_instruct/1"):
    """`num` new instructions, written after those in `rows` and those accepted before (Self-Instruct, Wang et al. 2022,
    arXiv 2212.10560).

    Each call shows `shown_seeds` of the rows and `shown_new` accepted instructions, drawn by the number of the call,
    and asks for `per_call` others. One is dropped, with the reason, when its ROUGE-L with any instruction that exists
    reaches `threshold`, when it has fewer than `shortest` or more than `longest` words, begins with punctuation, or
    holds one of the words of `without`. `about` says what all shall be about.

    New rows have the instruction in `input` and, with `classify`, whether it asks to choose among given labels, in
    `classification`. Their parents are the rows that their call was shown. It stops when there are enough, or when
    fewer than `least` of what the last `patience` calls were asked for was new; the record says which.
    """

    rows: Step[Rows]
    by: Asked
    num: int = Field(ge=1)
    input: Column = "instruction"
    about: str | None = Field(None, min_length=1)
    per_call: int = Field(8, ge=1, le=100)
    shown_seeds: int = Field(6, ge=1)
    shown_new: int = Field(2, ge=0)
    threshold: float = Field(0.7, gt=0, le=1)
    shortest: int = Field(3, ge=1)
    longest: int = Field(150, ge=1)
    without: tuple[str, ...] = UNSEEN
    classify: bool = False
    patience: int = Field(20, ge=1)
    least: float = Field(0.1, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _lengths_go_together(self) -> "SelfInstruct":
        if self.shortest > self.longest:
            raise ValueError(f"`shortest` is {self.shortest}, more than `longest`, which is {self.longest}")
        if self.classify and self.input == "classification":
            raise ValueError("with `classify`, `classification` is a column of its own; call `input` otherwise")
        return self

    def grower(self, context: Context) -> Grower[Any]:
        from ._self_instruct import Instructions

        return Instructions(self, context)

    def limited(self, num_rows: int) -> "SelfInstruct":
        """So many new instructions."""
        num = min(self.num, num_rows)
        found: SelfInstruct = self.replace(num=num, per_call=min(self.per_call, num), window=1)
        return found

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As if three of four instructions were new."""
        del rows_in
        calls = -(-self.num * 4 // (3 * self.per_call))
        prompt = 800 + 120 * (self.shown_seeds + self.shown_new)
        return expected(self.by, session, rows=self.num, calls=calls, prompt=prompt, reply=120 * self.per_call)
