"""Many new inputs from a few."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..calls.ask import Ask
from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Grower, GrowStep, Step
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Amplify(GrowStep, tag="generate.amplify/1"):
    """New rows with an `input`, `factor` times as many as the seeds in `rows`, written by `by` under `policy`.

    Each of many small calls shows some seeds and some inputs that were accepted before, and asks for `per_call` more.
    Which are shown depends on the number of the call alone, so the rows do not depend on the order in which replies
    come. An input is dropped, with the reason, when its words are those of a seed or an accepted one, when the Jaccard
    index of their three-word n-grams reaches `threshold`, or when it is shorter or longer than the seeds' range allows
    (`slack` times).

    It stops when there are enough, or when fewer than `least` of what the last `patience` calls were asked for was new;
    the record says which. The parents of a row are the seeds that its call was shown.
    """

    rows: Step[Rows]
    policy: Step[Report]
    by: Ask
    instruction: str = Field(min_length=1)
    factor: float = Field(50, gt=0, description="new rows for each seed")
    per_call: int = Field(10, ge=1, le=100)
    shown_seeds: int = Field(4, ge=1)
    shown_new: int = Field(6, ge=0)
    threshold: float = Field(0.8, gt=0, le=1)
    slack: float = Field(2.0, ge=1)
    patience: int = Field(20, ge=1)
    least: float = Field(0.1, ge=0, le=1)
    seed: int = 0

    def grower(self, context: Context) -> Grower[Any]:
        from ._amplify import Amplification

        return Amplification(self, context)

    def limited(self, num_rows: int) -> "Amplify":
        """One new row for each seed, of which there are `num_rows` then."""
        found: Amplify = self.replace(factor=1.0, per_call=min(self.per_call, num_rows), window=1)
        return found

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As if nine of ten inputs were new."""
        if rows_in is None:
            return expected(self.by, session, rows=None, calls=None, prompt=0, reply=0)
        rows = round(rows_in * self.factor)
        calls = -(-rows * 10 // (9 * self.per_call))
        prompt = 1500 + len(self.instruction) + 150 * (self.shown_seeds + self.shown_new)
        return expected(self.by, session, rows=rows, calls=calls, prompt=prompt, reply=150 * self.per_call)
