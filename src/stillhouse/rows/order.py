"""The same rows in another order."""

from pydantic import model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from .named import Columns


class Shuffle(Step[Rows], tag="rows.shuffle/1"):
    """The rows in an order that depends on `seed` and on their number; works through files, in bounded memory."""

    rows: Step[Rows]
    seed: int = 0

    def run(self, context: Context) -> None:
        from ._order import write_shuffled

        write_shuffled(self, context)


class Sort(Step[Rows], tag="rows.sort/1"):
    """The rows by the columns `by`, each ascending, or descending where its name stands in `descending`.

    Rows that are equal there stay in their order; a missing value comes last; text goes by code point. What does not
    fit into memory is sorted through files.
    """

    rows: Step[Rows]
    by: Columns
    descending: Columns | tuple[()] = ()

    @model_validator(mode="after")
    def _sorts_by_them(self) -> "Sort":
        for name in self.descending:
            if name not in self.by:
                raise RecipeError(f"Sort: `{name}` is in `descending`, but not in `by`", "Name it in both.")
        return self

    def run(self, context: Context) -> None:
        from ._order import write_sorted

        write_sorted(self, context)
