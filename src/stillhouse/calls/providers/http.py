"""The one way over HTTP: sends what a dialect writes, and says what a broken connection means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from yarl import URL

from stillhouse.core.errors import ModelError

from ..endpoint import Endpoint
from ..reply import Reply
from ..request import Request
from ..retry import TryAgain
from .dialect import Dialect, Watch


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
        self, url: str, headers: Mapping[str, str], body: bytes | aiohttp.FormData | None, *, method: str = "POST"
    ) -> Response:
        """One response, whatever its status. Raises `TryAgain` or, where nothing helps, `ModelError` without one."""
        where = self._endpoint.url
        try:
            # No task of a redirect: a POST that is moved would be asked twice, and its key sent elsewhere.
            async with self._open().request(
                method, self._url(url), data=body, headers=headers, allow_redirects=False
            ) as response:
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

    def __init__(self, dialect: Dialect, transport: Transport) -> None:
        self.dialect = dialect
        self.transport = transport

    async def ask(self, request: Request) -> Reply:
        dialect = self.dialect
        body = dialect.body(request)
        status, headers, answer = await self.transport.send(dialect.url(request), dialect.headers(request, body), body)
        if status != 200:
            raise dialect.failure(status, headers, answer)
        return dialect.read(answer)

    async def close(self) -> None:
        await self.transport.close()
