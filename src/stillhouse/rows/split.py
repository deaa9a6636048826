"""A table in two parts, for training and for testing."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Output, Step


class Split(Step[Rows], tag="rows.split/1"):
    """The rows in two parts, `train` and `test`; together they are all rows, and each keeps its order.

    Row ids and `seed` decide, so a row tends to stay on its side when others are added. With `by`, each value of that
    column has its share in the test part, to within one row. Near-duplicates may stand on both sides: see `SplitApart`.
    """

    outputs = ("train", "test")

    rows: Step[Rows]
    test_size: float = Field(0.1, gt=0)
    """A share of the rows if below 1, else their number."""
    by: str | None = None
    seed: int = 0

    @property
    def train(self) -> Output:
        return self.output("train")

    @property
    def test(self) -> Output:
        return self.output("test")

    def limited(self, num_rows: int) -> "Split":
        """One row for testing: a share of a few rows may be none."""
        del num_rows
        found: Split = self.replace(test_size=1)
        return found

    def run(self, context: Context) -> None:
        from ._split import write_split

        write_split(self, context)
