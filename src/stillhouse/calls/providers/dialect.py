"""What a dialect is: how one API writes a request, and how its responses are read. No dialect opens a connection.

The transport in `http.py` sends what a dialect writes; batch files are rendered and read with the same dialects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from stillhouse.core.errors import ModelError, RowFault

from ..reply import Reply
from ..request import Request

Watch: TypeAlias = Callable[[int, Mapping[str, str]], None]
"""Called with status and headers of every response, as pacing wants to know them."""

Notice: TypeAlias = Callable[[str, Reply], None]
"""Called with words for the user and the reply, once for each thing that is odd; may raise."""


class Dialect(Protocol):
    """One API, spoken at one place on behalf of one deployment.

    `read` raises what `failure` returns for an error behind status 200, and `TryAgain` for what cannot be read.
    `failure` returns the `TryAgain`, `RowFault` or other `ModelError` that a response means; it never holds a key.
    """

    def url(self, request: Request) -> str: ...

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]: ...

    def body(self, request: Request) -> bytes: ...

    def read(self, body: bytes) -> Reply: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault: ...
