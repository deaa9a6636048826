"""Duplicates and near-duplicates."""

from typing import Literal

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step
from ..rows.named import Columns


class Dedup(Step[Rows], tag="curate.dedup/1"):
    """The first of each group of rows whose texts are alike; the others are dropped and name the row that was kept.

    Two texts are alike when the Jaccard index of their n-grams reaches `threshold`; case, punctuation and spacing do
    not count, symbols do (`text.ngrams`). MinHash proposes pairs (one at the threshold with a probability of 0.995, a
    closer one more surely); the index of each pair is then computed exactly. A row is compared with the rows kept
    before it, so a chain of small changes does not carry away a row unlike all that stay.
    """

    rows: Step[Rows]
    columns: Columns = ("input",)
    """What is compared; several columns count as one text."""
    threshold: float | None = Field(0.8, gt=0, le=1)
    """None drops only rows whose text is equal character for character."""
    ngram: int = Field(3, ge=1, le=32)
    """Words (or characters) in a row that count as one; a shorter text is one n-gram."""
    unit: Literal["words", "characters"] = "words"
    """`characters` for languages that do not put spaces between words, with `ngram` 5 or so."""

    def run(self, context: Context) -> None:
        from ._dedup import write_first_of_each

        write_first_of_each(self, context)
