"""The baseline that a student must beat: the answer of the most similar example."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step


class NearestNeighbour(Step[Rows], tag="evaluate.nearest_neighbour/1"):
    """Answers each row of `on` with the output of the row of `rows` whose input is most similar.

    Similarity is the cosine of TF-IDF vectors over character n-grams of words (each word padded with a space at both
    ends, case folded; term counts as 1 + ln(count), idf as 1 + ln((1 + n) / (1 + df))). Of equally similar rows the
    first answers; a row that shares no n-gram with any gets the first row's answer and a similarity of 0. The result is
    made like that of `Predict`, with `neighbour` (a row id) and `similarity` beside it.
    """

    rows: Step[Rows]
    on: Step[Rows]
    input_column: str = "input"
    output_column: str = "output"
    shortest: int = Field(2, ge=1, description="characters of the shortest n-gram")
    longest: int = Field(4, ge=1, description="characters of the longest n-gram")

    def run(self, context: Context) -> None:
        from ._neighbour import answer_all

        answer_all(self, context)
