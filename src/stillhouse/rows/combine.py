"""Several tables in one: one after the other, side by side, or matched by value."""

from typing import Literal

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step
from .named import Columns


class Concat(Step[Rows], tag="rows.concat/1"):
    """The rows of all tables, one table after the other. A column that a table lacks is empty there.

    A row that came before (the same row reached in two ways) becomes a new row whose parent is the first.
    """

    rows: tuple[Step[Rows], ...] = Field(min_length=1)

    def run(self, context: Context) -> None:
        from ._combine import write_concat

        write_concat(self, context)


class Zip(Step[Rows], tag="rows.zip/1"):
    """The first rows of all tables side by side as one row, then the second…; the tables are of one length."""

    rows: tuple[Step[Rows], ...] = Field(min_length=2)

    def run(self, context: Context) -> None:
        from ._combine import write_zip

        write_zip(self, context)


class Join(Step[Rows], tag="rows.join/1"):
    """Each row of `left` with each row of `right` that has the same values in the columns `on`.

    `left` rows without a partner are left out (`inner`) or kept with empty columns (`left`). A missing value equals
    nothing. The order is that of `left`, then that of `right`.
    """

    left: Step[Rows]
    right: Step[Rows]
    on: Columns
    how: Literal["inner", "left"] = "inner"

    def run(self, context: Context) -> None:
        from ._combine import write_join

        write_join(self, context)
