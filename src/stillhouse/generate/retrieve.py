"""The rows of an index that are nearest to each row."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..calls.embedder import Embedder
from ..core.artifact import Files
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from .expectation import expected_embedding
from .index import Index

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Retrieve(MapStep, tag="generate.retrieve/1"):
    """Adds the `k` rows of `index` that are nearest to the text (or the vector) in `column`, best first.

    The new column is a list of `{"id": …, "score": …, "row": {…}}`: the id of the row in the corpus, the cosine (or
    what BM25 gives), and the columns that the index keeps. Scores are rounded to seven digits; of equal ones the row
    that stands first in the corpus is first. The parents of a row are the row itself and all that was found for it.
    """

    index: Step[Files]
    column: str = "query"
    k: int = Field(5, ge=1)
    into: str = Field("retrieved", pattern="^[^_]")
    columns: tuple[str, ...] | None = None
    """Of the columns that the index keeps, those to show; None: all. `()` leaves ids and scores."""
    least: float | None = None
    """Rows with a lower score are not taken."""
    apart: bool = False
    """A row never finds itself: for neighbours within one table."""

    def mapper(self, context: Context) -> Mapper:
        from ._retrieve import retriever

        return retriever(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One text for each row."""
        return expected_search(self.index, session, rows_in)


def expected_search(index: Step[Files], session: "Session", rows_in: int | None) -> "Expectation":
    """What looking up one text for each row takes."""
    by = index.by if isinstance(index, Index) and isinstance(index.by, Embedder) else None
    return expected_embedding(by, session, rows=rows_in, texts=rows_in)


def with_search(asked: "Expectation", search: "Expectation") -> "Expectation":
    """What asking takes together with the look-ups before it."""
    from dataclasses import replace

    def both(name: str) -> Any:  # a number, or None where one of them is not known
        values = getattr(asked, name), getattr(search, name)
        return None if None in values else sum(values)

    if search.calls == 0:
        return asked
    return replace(asked, **{name: both(name) for name in ("calls", "tokens_in", "tokens_out", "cost_usd")})
