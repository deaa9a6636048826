"""Many new inputs from a few."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..calls.embedder import Embedder
from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Grower, GrowStep, Step
from .checks import Asked
from .expectation import Load, expected, expected_of

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

    What the new inputs cover is measured and, where that is asked for, steered: each call asks for what is short of its
    share among the rows that it sees.

    - `difficulty={"easy": 0.3, "medium": 0.5, "hard": 0.2}` is kept: of no level more is accepted than its share.
    - `steer`: the policy's `patterns`, evenly; `lengths`, in `bands` as the seeds have them.
    - A policy of several clusters (`ExtractPolicy(clusters="auto")`) has each call write for one of them, in proportion
      to its seeds, with its policy, its patterns and its seeds.

    Where pattern or difficulty count, the writer says of each new input what it is, or `labelled_by` does, which is not
    told what was asked for. They become the columns `pattern`, `difficulty` and `cluster`. The record says how many
    rows each has and should have had, and what became of all that came.

    It stops when there are enough, or when fewer than `least` of what the last `patience` calls were asked for was new;
    the record says which. With `novelty` it also stops when what the last `patience` calls brought is, in the mean, no
    further than that from what was there: 1 less the highest cosine, of vectors by `embedder`. With `alike`, an input
    of such a cosine with an earlier one is dropped. The parents of a row are the seeds that its call was shown.
    """

    rows: Step[Rows]
    policy: Step[Report]
    by: Asked
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
    difficulty: dict[Literal["easy", "medium", "hard"], float] | None = None
    steer: tuple[Literal["patterns", "lengths"], ...] = ()
    bands: int = Field(3, ge=1, le=10, description="ranges of lengths")
    labelled_by: Asked | None = Field(None, description="says pattern and difficulty in place of the writer")
    alike: float | None = Field(None, gt=0, le=1)
    novelty: float | None = Field(None, gt=0, lt=1)
    embedder: Embedder = Embedder(model="hash:256")

    @field_validator("difficulty")
    @classmethod
    def _whole(cls, difficulty: dict[str, float] | None) -> dict[str, float] | None:
        if difficulty is not None and (
            any(share < 0 for share in difficulty.values()) or abs(sum(difficulty.values()) - 1) > 1e-6
        ):
            shares = ", ".join(f"{level} {share:g}" for level, share in difficulty.items())
            raise ValueError(f"the shares add up to {sum(difficulty.values()):g}, expected 1 ({shares})")
        return difficulty

    @model_validator(mode="after")
    def _labels_wanted(self) -> "Amplify":
        if self.labelled_by is not None and self.difficulty is None and "patterns" not in self.steer:
            raise ValueError("`labelled_by` has nothing to say: neither `difficulty` nor `patterns` are steered")
        return self

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
        writing = Load(self.by, calls, prompt, 150 * self.per_call)
        if self.labelled_by is None:
            return expected_of([writing], session, rows=rows)
        labelling = Load(self.labelled_by, calls, 1500 + 150 * self.per_call, 40 * self.per_call)
        return expected_of([writing, labelling], session, rows=rows)
