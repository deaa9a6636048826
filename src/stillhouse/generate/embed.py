"""Vectors of texts, and how near two of them are."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ..calls.embedder import Embedder, Role
from ..core.context import Context
from ..core.step import Mapper, MapStep
from .expectation import expected_embedding

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Embed(MapStep, tag="generate.embed/1"):
    """Adds a column of vectors: the list of float32 numbers that `by` makes of the text in `column`.

    A row whose text is missing or not taken fails. Equal texts are asked for once, in all runs.
    """

    by: Embedder
    column: str = "text"
    into: str = Field("vector", pattern="^[^_]")
    role: Role = "document"
    """`query` for texts that are looked up with, where the model or its instructions tell the two apart."""

    def mapper(self, context: Context) -> Mapper:
        from ._embed import embedder

        return embedder(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One text for each row."""
        return expected_embedding(self.by, session, rows=rows_in, texts=rows_in)


class CosineSimilarity(MapStep, tag="generate.cosine_similarity/1"):
    """Adds the cosine of two columns, from -1 to 1, rounded to seven digits; 0 where one of them is a vector of zeros.

    Each holds texts, which `by` makes vectors of, or vectors. The first is taken as a query, the second as a document,
    unless `symmetrical`.
    """

    left: str
    right: str
    by: Embedder | None = None
    into: str = Field("similarity", pattern="^[^_]")
    symmetrical: bool = True
    """Both are documents. False: `left` is embedded as a query, for models that tell the two apart."""

    @model_validator(mode="after")
    def _two(self) -> "CosineSimilarity":
        if self.left == self.right:
            raise ValueError(f"`left` and `right` are both `{self.left}`, which is 1 to itself")
        return self

    def mapper(self, context: Context) -> Mapper:
        from ._embed import comparer

        return comparer(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """Two texts for each row."""
        texts = None if rows_in is None else 2 * rows_in
        return expected_embedding(self.by, session, rows=rows_in, texts=texts)
