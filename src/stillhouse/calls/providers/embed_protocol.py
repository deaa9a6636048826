"""What a provider of vectors is. A new one is one file that maps its errors to our three classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ..reply import NO_USAGE, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbedForm(NamedTuple):
    """What many texts share. `prefix` stands before each text; the rest is asked of the provider and counts in keys.

    `task` is what texts are for, where the API is told; `pooling` is for models of this machine.
    """

    model: str
    prefix: str = ""
    dimensions: int | None = None
    task: Literal["document", "query"] | None = None
    pooling: str | None = None

    def shape(self) -> dict[str, str | int | None]:
        """What shapes a vector besides the model and the text."""
        return {"dimensions": self.dimensions, "task": self.task, "pooling": self.pooling}


class Limits(NamedTuple):
    """How much goes into one request."""

    texts: int
    tokens: float = float("inf")


class Made(NamedTuple):
    """Vectors in the order of the texts, one row each, and the tokens as the provider counted them."""

    array: NDArray[np.float32]
    usage: Usage = NO_USAGE


class EmbeddingProvider(Protocol):
    """A way to reach a model of vectors.

    `embed` makes one attempt and raises as `Provider.ask` does: a `RowFault` where these texts are not taken (they are
    then tried in halves), `TryAgain` where another attempt may succeed, any other `ModelError` where no text can.
    """

    @property
    def limits(self) -> Limits: ...

    async def embed(self, texts: Sequence[str], form: EmbedForm) -> Made: ...

    async def close(self) -> None: ...
