"""Rows that stand in a test set."""

from collections.abc import Mapping

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step
from ..rows.named import Columns


class Decontaminate(Step[Rows], tag="curate.decontaminate/3"):
    """The rows that do not overlap with any test set; the others are dropped, with the evidence.

    A row overlaps with a test item when both hold the same `span` words in a row (8 to 13 are usual) and such runs
    cover a share of `overlap` of the item's words, or when the Jaccard index of their three-word n-grams reaches
    `threshold` (exactly equal texts included). Case, punctuation and spacing do not count; symbols do (`text.ngrams`).
    A text without a word overlaps with nothing.

    The evidence of a dropped row names the test set, the item, the longest run of words that is shared and the share of
    the item that is covered, and other test sets in which the row stands too. The record counts for each test set its
    items, those that some row overlaps with, and these rows. All test items are held in memory, the rows are not.
    """

    rows: Step[Rows]
    against: Mapping[str, Step[Rows]] = Field(min_length=1)
    """Test sets by the name under which they are reported."""
    columns: Columns = ("input",)
    """What is compared in the rows; several columns count as one text."""
    test_columns: Columns | None = None
    """What is compared in the test sets; None takes `columns`."""
    span: int = Field(10, ge=3, le=64)
    overlap: float = Field(0.0, ge=0, le=1)
    """0: one shared run is enough."""
    threshold: float = Field(0.8, gt=0, le=1)

    def run(self, context: Context) -> None:
        from ._decontaminate import write_clean

        write_clean(self, context)
