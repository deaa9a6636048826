"""The one way over HTTP: sends what a dialect writes, and says what a broken connection means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import aiohttp
from yarl import URL

from stillhouse.core.errors import ModelError

from ..endpoint import Endpoint
from ..repair import with_usage
from ..reply import Reply
from ..request import Request
from ..retry import TryAgain
from .dialect import Dialect, Notice, Watch


class Response(NamedTuple):
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Connections to one endpoint, `connections` at most. One session for one event loop."""

    def __init__(self, endpoint: Endpoint, connections: int, watch: Watch | None = None) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._watch = watch
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def send(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes | aiohttp.FormData | BinaryIO | None,
        *,
        method: str = "POST",
        into: BinaryIO | None = None,
    ) -> Response:
        """One response, whatever its status; raises `TryAgain` or, where nothing helps, `ModelError` without one.

        With `into` the body of a response of status 200 goes into that file.
        """
        where = self._endpoint.url
        try:
            # No task of a redirect: a POST that is moved would be asked twice, and its key sent elsewhere.
            async with self._open().request(
                method, self._url(url), data=body, headers=headers, allow_redirects=False
            ) as response:
                if into is not None and response.status == 200:
                    async for chunk in response.content.iter_chunked(1 << 16):
                        into.write(chunk)
                    found = Response(200, response.headers, b"")
                else:
                    found = Response(response.status, response.headers, await response.read())
        except aiohttp.ClientConnectorCertificateError as error:
            message = f"the certificate of {where} is not trusted ({error.certificate_error})"
            raise ModelError(message, kind="unreachable") from None
        except aiohttp.ConnectionTimeoutError as error:
            raise TryAgain("unreachable", f"nobody answers at {where} ({error})") from None
        except aiohttp.ClientConnectorError as error:
            raise TryAgain("unreachable", f"nobody answers at {where} ({error.os_error})") from None
        except TimeoutError as error:
            raise TryAgain("timeout", f"no reply in time ({error})") from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise TryAgain("reset", f"the connection broke off ({type(error).__name__}: {error})") from None
        except aiohttp.ClientError as error:
            raise TryAgain("garbled", f"the server does not speak HTTP as it should ({error})") from None
        if self._watch is not None:
            self._watch(found.status, found.headers)
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets transports see that they are closed
            self._session = None

    def _url(self, url: str) -> URL:
        found = self._urls.get(url)
        if found is None:  # as it is written: a model's name in a path may hold what yarl would write otherwise
            found = self._urls[url] = URL(url, encoded=True)
        return found

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            endpoint = self._endpoint
            timeout = aiohttp.ClientTimeout(
                total=endpoint.total_timeout, sock_connect=endpoint.connect_timeout, sock_read=endpoint.read_timeout
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, limit_per_host=0),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class HttpProvider:
    """A provider that is a dialect over a transport."""

    def __init__(
        self, dialect: Dialect, transport: Transport, endpoint: Endpoint, notice: Notice | None = None
    ) -> None:
        self.dialect = dialect
        self.transport = transport
        self._endpoint = endpoint
        self._notice = notice
        self._answering: set[str] = set()

    async def ask(self, request: Request) -> Reply:
        dialect = self.dialect
        body = dialect.body(request)
        status, headers, answer = await self.transport.send(dialect.url(request), dialect.headers(request, body), body)
        if status != 200:
            raise dialect.failure(status, headers, answer)
        reply = with_usage(request, dialect.read(answer))
        if reply.model is not None and reply.model not in self._answering:
            self._heard_of(reply, reply.model, request)
        return reply

    async def close(self) -> None:
        await self.transport.close()

    def _heard_of(self, reply: Reply, answering: str, request: Request) -> None:
        """Tell once that another model answers than was asked, and once that it became yet another.

        Who is told may raise: then the reply is not taken, and what comes next is judged anew.
        """
        earlier = next(iter(self._answering), None)
        asked = self._endpoint.model or request.model
        # Azure is asked by a name that the user chose.
        if self._notice is not None and self._endpoint.api != "azure":
            if earlier is None and not is_same_model(asked, answering):
                told = f"`{self._endpoint.url}` was asked for the model `{asked}`, and `{answering}` answers"
                self._notice(told, reply)
            elif len(self._answering) == 1:
                what = f"the model `{asked}` was answered by `{earlier}` so far, and now by `{answering}`"
                self._notice(f"{what}: what is behind the name at `{self._endpoint.url}` may have changed", reply)
        self._answering.add(answering)


_DATED = re.compile(r"[-@:._]?(\d|latest|preview|v\d)")


def is_same_model(asked: str, answering: str) -> bool:
    """Whether two names of a model say the same: without owners, and with a date or version that was left open."""
    one, other = (name.lower().rpartition("/")[2].removesuffix("-latest") for name in (asked, answering))
    return one == other or (other.startswith(one) and _DATED.match(other[len(one) :]) is not None)
