"""What a provider is. A new one is one file here that maps its errors to our three classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from stillhouse.core.errors import ModelError, RowFault

from ..reply import Reply
from ..request import Request


class Provider(Protocol):
    """A way to reach a model.

    `ask` makes one attempt. It raises `TryAgain` where another may succeed, `RowFault` where this request can never,
    any other `ModelError` where no request can. Content filters, refusals, cut and empty replies are replies.
    """

    async def ask(self, request: Request) -> Reply: ...

    async def close(self) -> None: ...


Answered: TypeAlias = tuple[int, Reply | RowFault | ModelError]
"""The place of a request in the list that was given, and what became of it; errors that `ask` would raise are
returned."""


@runtime_checkable
class InProcess(Protocol):
    """A provider that answers many requests in one go, without waiting for anything outside this process.

    `ask_some` answers at least one of the requests and returns after about `seconds` with those it has, so that they
    can be committed. What takes time in it runs in a thread of the provider's own.
    """

    async def ask(self, request: Request) -> Reply: ...

    async def close(self) -> None: ...

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]: ...
