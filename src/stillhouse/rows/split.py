"""A table in two parts, for training and for testing."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Output, Step


class Split(Step[Rows], tag="rows.split/2"):
    """The rows in two parts, `train` and `test`; together they are all rows, and each keeps its order.

    Row ids and `seed` decide, so a row tends to stay on its side when others are added. With `by`, each value of that
    column has its share in the test part, to within one row; a value with a single row is no error. With `group`, rows
    with the same value there (an author, a source document) go to the same side, and shares are kept as far as whole
    groups allow: the test part may then be smaller than asked for, never larger; the record says by how much.
    Near-duplicates may stand on both sides: see `SplitApart`.
    """

    outputs = ("train", "test")

    rows: Step[Rows]
    test_size: float = Field(0.1, gt=0)
    """A share of the rows if below 1, else their number."""
    by: str | None = None
    """A column whose values have the same shares in both parts."""
    group: str | None = None
    """A column whose equal values must not be torn apart; a row without a value stands by itself."""
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
