"""One of the places that a deployment is answered from: its provider, and how fast that may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from stillhouse.core.errors import ModelError

from .endpoint import Endpoint
from .pace import Pace, Turn
from .providers.protocol import Provider


class Doubt:
    """A refusal of which it is not known yet whether it is meant for one request or for all."""

    __slots__ = ("answer", "joined", "over", "turn")

    def __init__(self) -> None:
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when it is known, as far as it can be: whether another request was answered meanwhile."""
        self.turn: Turn | None = None
        """That of the request that finds out."""
        self.answer: asyncio.Future[bool | None]
        """What it finds: whether it was answered; None where that says nothing."""
        self.joined = False
        """Whether other requests were refused as well."""

    def ask(self, turn: Turn | None) -> None:
        """Another request finds out."""
        self.turn, self.answer = turn, asyncio.get_running_loop().create_future()

    def heard(self, answered: bool | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answered)


class Source:
    """An endpoint of a pool, or all there is of a deployment without one.

    `doubted`: whether a refusal is asked for once more before it is believed, as of anything behind a network.
    """

    def __init__(
        self,
        name: str,
        pace: Pace,
        make: Callable[[], Provider],
        *,
        doubted: bool = False,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        """Where it is reached, if over HTTP."""
        self.pace = pace
        self.doubted = doubted
        self.closed_by: ModelError | None = None
        """Why nobody asks here any more."""
        self.doubt: Doubt | None = None
        """While it is found out whether a refusal stands."""
        self.suspect = False
        """Whether the last request was refused, and no other one was there to tell for whom that was meant."""
        self._headers: Mapping[str, str] | None = None
        self._make = make
        self._provider: Provider | None = None

    @property
    def provider(self) -> Provider:
        """Made at the first call: what is answered from the cache needs neither key nor network."""
        if self._provider is None:
            self._provider = self._make()
        return self._provider

    def ready(self) -> None:
        """Make the provider, whose key may be missing, before anything is on the wire."""
        _ = self.provider

    def watch(self, status: int, headers: Mapping[str, str]) -> None:
        """Told by the transport of every response, just before it hands it on."""
        del status
        self._headers = headers

    def heard(self, turn: Turn) -> None:
        """Called as soon as a call is over: what its response said of limits."""
        if self._headers is not None:
            headers, self._headers = self._headers, None
            self.pace.heard(headers, turn)

    async def close(self) -> None:
        self.pace.leave()
        if self._provider is not None:
            await self._provider.close()
            self._provider = None
