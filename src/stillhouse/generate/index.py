"""What is searched: rows by their vectors, or by their words."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ..calls.bm25 import Bm25
from ..calls.embedder import Embedder
from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.part import Part
from ..core.step import Step
from .expectation import expected_embedding

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Hnsw(Part, tag="generate.hnsw/1"):
    """An approximate search: a graph of neighbours (Malkov and Yashunin 2018), by usearch (`pip install
    "stillhouse[search]"`).

    Worth its while from some hundred thousand rows on. What it proposes is compared exactly, so scores are right; a
    nearest row may be overlooked, the less often the larger the three numbers.
    """

    neighbours: int = Field(16, ge=2)
    """Edges of a row in the graph."""
    building: int = Field(128, ge=1)
    """Candidates looked at for each row while the graph is made."""
    searching: int = Field(128, ge=1)
    """Candidates looked at for each query."""


class Index(Step[Files], tag="generate.index/1"):
    """An index over `rows` that `Retrieve`, `RAG` and `FewShotWithRetrieval` search.

    `by` an `Embedder` makes vectors of the texts in `column` and finds what is near in meaning; by `Bm25` the words in
    common count; None takes the vectors that stand in `column`. The search is exact unless `approximate`.

    The index holds the rows' ids and the columns `keep`, so what is found can be shown and traced. Rows without a text
    are left out, and counted in the record.
    """

    rows: Step[Rows]
    by: Embedder | Bm25 | None
    column: str = "text"
    keep: tuple[str, ...] | None = None
    """Columns that go along; None: all but vectors."""
    approximate: Hnsw | None = None

    @model_validator(mode="after")
    def _coherent(self) -> "Index":
        if self.approximate is not None and isinstance(self.by, Bm25):
            raise ValueError("`approximate` is for vectors; a search by words is exact and quick as it is")
        return self

    def run(self, context: Context) -> None:
        from ._index import write_index

        write_index(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One text for each row."""
        by = self.by if isinstance(self.by, Embedder) else None
        return expected_embedding(by, session, rows=None, texts=rows_in)
