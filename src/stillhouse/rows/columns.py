"""Which columns a table has, and what they are called."""

from collections.abc import Mapping

from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Emit, Outcome, Row, content_of
from ..core.step import Mapper, MapStep
from .named import Columns
from .transform import lacks, missing_column


class Select(MapStep, tag="rows.select/1"):
    """The named columns, in this order; or, with `without`, all but those.

    Where all columns are named, the table stays as it is.
    """

    columns: Columns | None = None
    without: Columns | tuple[()] = ()

    def mapper(self, context: Context) -> Mapper:
        source = context.get(self.rows)
        have = source.columns
        if (self.columns is None) == (not self.without):
            raise RecipeError("Select: give either `columns` or `without`")
        for name in self.columns or self.without:
            if lacks(source, name):
                raise missing_column("Select", name, have)
        taken = self.columns or tuple(name for name in have if name not in self.without)
        if have and not taken:
            raise RecipeError("Select: no column would be left")
        same = sorted(taken) == sorted(have)
        return lambda rows: [_selected(row, taken, same) for row in rows]


def _selected(row: Row, columns: tuple[str, ...], same: bool) -> Outcome:
    return KEEP if same else Emit([{name: row[name] for name in columns}])


class Rename(MapStep, tag="rows.rename/1"):
    """The same rows with columns called otherwise: `names={"question": "input"}`."""

    names: Mapping[str, str] = Field(min_length=1)

    def mapper(self, context: Context) -> Mapper:
        source = context.get(self.rows)
        have = source.columns
        for name in self.names:
            if lacks(source, name):
                raise missing_column("Rename", name, have)
        made = [self.names.get(name, name) for name in have]
        twice = [name for name in made if made.count(name) > 1]
        if twice:
            raise RecipeError(
                f"Rename: two columns would be called `{twice[0]}`", "Leave one out first with `Select(without=...)`."
            )
        return lambda rows: [Emit([self._renamed(row)]) for row in rows]

    def _renamed(self, row: Row) -> dict[str, object]:
        return {self.names.get(name, name): value for name, value in content_of(row).items()}
