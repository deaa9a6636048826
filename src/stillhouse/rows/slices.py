"""The first rows, and those after them."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step


class Take(Step[Rows], tag="rows.take/1"):
    """The first `num` rows, or all where there are fewer."""

    rows: Step[Rows]
    num: int = Field(ge=0)

    def run(self, context: Context) -> None:
        from ._slices import write_slice

        write_slice(context, self.rows, 0, self.num)


class Skip(Step[Rows], tag="rows.skip/1"):
    """The rows after the first `num`."""

    rows: Step[Rows]
    num: int = Field(ge=0)

    def run(self, context: Context) -> None:
        from ._slices import write_slice

        write_slice(context, self.rows, self.num, None)
