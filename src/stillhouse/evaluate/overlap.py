"""Seeds must not stand in the test set."""

from collections.abc import Iterable, Sequence

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Outcome, Row
from ..core.step import Mapper, MapStep, Step
from ..text.ngrams import words


class RefuseOverlap(MapStep, tag="evaluate.refuse_overlap/1"):
    """Passes the test rows on unchanged, or raises `RecipeError` when one of `seeds` stands among them.

    Two inputs are the same when their words are, whatever case and punctuation. Near-duplicates are for
    `curate.decontaminate`.
    """

    seeds: Step[Rows]
    input_column: str = "input"

    def mapper(self, context: Context) -> Mapper:
        known = {wording(row, self.input_column): row["_id"] for row in context.get(self.seeds)}

        def look(rows: Sequence[Row]) -> list[Outcome]:
            refuse_overlap(rows, known, self.input_column)
            return [KEEP] * len(rows)

        return look


def refuse_overlap(test: Iterable[Row], seeds: dict[str, str], column: str = "input") -> None:
    """Raise `RecipeError` naming test rows whose wording is among `seeds` (wording -> row id)."""
    found = [row for row in test if wording(row, column) in seeds]
    if found:
        shown = "\n".join(
            f"    {row['_id']} = seed {seeds[wording(row, column)]}: {str(row[column])[:100]!r}" for row in found[:5]
        )
        more = f"\n    and {len(found) - 5} more" if len(found) > 5 else ""
        raise RecipeError(
            f"{len(found)} rows of the test set stand among the seeds:\n{shown}{more}",
            "Take them out of the seeds or out of the test set: a score on known rows means nothing.",
        )


def wording(row: Row, column: str) -> str:
    """The words of a row's input, by which rows count as the same."""
    if column not in row:
        known = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
        raise RecipeError(f"the rows have no column `{column}`", f"Name the one with the input; there are {known}.")
    value = row[column]
    texts = (
        [value]
        if isinstance(value, str)
        else [str(m.get("content", "")) for m in value if m.get("role") != "assistant"]
    )
    found = " ".join(words("\n".join(texts)))
    return found or "\n".join(texts).strip()
