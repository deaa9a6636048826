"""A user's function for each row: new rows from it, or a choice among rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.functions import Function
from ..core.outcome import KEEP, Drop, Emit, Fail, Outcome, Row, content_of
from ..core.step import Mapper, MapStep


class Map(MapStep, tag="rows.map/1"):
    """What `function(row)` returns for each row: a dict is one row, a list of dicts any number of rows.

    A row that comes back unchanged keeps its id. An exception fails its row, not the step.
    """

    function: Function

    def mapper(self, context: Context) -> Mapper:
        from ..core._tables import same_content

        del context
        return lambda rows: [self._outcome(row, same_content) for row in rows]

    def _outcome(self, row: Row, same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]) -> Outcome:
        content = content_of(row)
        made = attempt(self.function, content)
        if isinstance(made, Fail):
            return made
        if isinstance(made, Mapping):
            return KEEP if same(made, content_of(row)) else Emit([made])
        if isinstance(made, list | tuple) and all(isinstance(one, Mapping) for one in made):
            return Emit(made)
        raise RecipeError(
            f"Map: `{name_of(self.function)}` returned {made!r:.80} ({type(made).__name__})",
            "Return a dict of columns, or a list of such dicts (an empty one for no row).",
        )


class Filter(MapStep, tag="rows.filter/1"):
    """The rows for which `where(row)` is True, unchanged; a text instead of False is the reason for dropping the row.

    An exception fails its row, not the step.
    """

    chooses: ClassVar[bool] = True

    where: Function

    def mapper(self, context: Context) -> Mapper:
        del context
        return lambda rows: [self._outcome(row) for row in rows]

    def _outcome(self, row: Row) -> Outcome:
        answer = attempt(self.where, content_of(row))
        if isinstance(answer, Fail):
            return answer
        if isinstance(answer, str):
            return Drop(answer)
        if isinstance(answer, bool) or type(answer).__name__ == "bool_":
            return KEEP if answer else Drop(f"`{name_of(self.where)}` said no")
        raise RecipeError(
            f"Filter: `{name_of(self.where)}` returned {answer!r:.80} ({type(answer).__name__})",
            "Return True to keep a row, False or the reason as text to drop it.",
        )


def attempt(function: Any, content: dict[str, Any]) -> Any:
    """What the function returns, or the row's failure."""
    try:
        return function(content)
    except RowFault as fault:
        return Fail(fault.kind, fault.message, fault.raw)
    except (Exception, SystemExit) as error:  # what a library for command lines raises ends its row, not the run
        text = str(error)
        return Fail("error", f"{type(error).__name__}: {text}" if text else type(error).__name__)


def name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def lacks(rows: Rows, column: str) -> bool:
    """Whether a step cannot read this column; of a table without rows, nobody may know which columns it would have."""
    columns = rows.columns
    return column not in columns and bool(columns or len(rows))


def missing_column(step: str, wanted: str, columns: Sequence[str]) -> RecipeError:
    """The error of a step that reads a column which is not there."""
    from difflib import get_close_matches

    close = get_close_matches(wanted, columns, n=1)
    names = ", ".join(f"`{name}`" for name in columns)
    hint = f"Did you mean `{close[0]}`? " if close else ""
    return RecipeError(f"{step}: there is no column `{wanted}`", f"{hint}The columns are {names}.")
