"""A test set that has no near-duplicate in training."""

from typing import Literal

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Output, Step
from ..rows.named import Columns


class SplitApart(Step[Rows], tag="curate.split_apart/2"):
    """Rows in two parts, `train` and `test`, that share no near-duplicates and no group; no row is lost.

    Rows that are alike (as in `Dedup`), or alike through others, go to the same side, and so do rows with the same
    value of `group`. Which side is decided by row ids and `seed` alone. A cluster that is larger than what the test
    part still needs goes to training, so the test part may be smaller than asked for; the record says by how much.
    Rows that are alike one of `known`, or alike through others, go to training too: `known` is trained on in any case,
    and stands in neither part.
    """

    outputs = ("train", "test")

    rows: Step[Rows]
    test_size: float = Field(0.1, gt=0)
    """A share of the rows if below 1, else their number."""
    columns: Columns = ("input",)
    """What is compared; several columns count as one text."""
    threshold: float = Field(0.6, gt=0, le=1)
    """Lower than for duplicates: what is half the same already tells the answer."""
    ngram: int = Field(3, ge=1, le=32)
    unit: Literal["words", "characters"] = "words"
    by: str | None = None
    """A column whose values shall have the same shares in both parts (as far as clusters allow)."""
    group: str | None = None
    """A column whose equal values must not be torn apart: an author, a source document. Rows without one are free."""
    known: Step[Rows] | None = None
    """Rows outside the two parts that no test row may be like."""
    seed: int = 0

    @property
    def train(self) -> Output:
        return self.output("train")

    @property
    def test(self) -> Output:
        return self.output("test")

    def limited(self, num_rows: int) -> "SplitApart":
        """One row for testing: a share of a few rows may be none."""
        del num_rows
        found: SplitApart = self.replace(test_size=1)
        return found

    def run(self, context: Context) -> None:
        from ._split_apart import write_apart

        write_apart(self, context)
