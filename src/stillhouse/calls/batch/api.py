"""What a provider's batch API is to us: a job is submitted, looked at, collected, cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..credentials import Credentials
from ..endpoint import Endpoint
from ..providers.connect import dialect_of
from ..providers.dialect import Dialect
from ..providers.http import Response, Transport
from ..providers.place import Place
from ..reply import Reply


class Status(NamedTuple):
    """How far a job is, as its provider says."""

    state: Literal["running", "ended", "failed", "later"]
    """`ended`: there is something to collect; `failed`: it was not taken; `later`: not taken now, as too much is."""
    done: int = 0
    failed: int = 0
    message: str = ""
    files: tuple[str, ...] = ()
    """Where results are."""


class Result(NamedTuple):
    """What became of one request: a reply, a fault of this request, or (None) nothing, so that it is asked again."""

    key: str
    outcome: Reply | RowFault | ModelError | None


class Sent(NamedTuple):
    """A job as the provider should know it again: our id, when it was first sent, and its number of requests."""

    id: str
    since: float
    num: int


class BatchApi(Protocol):
    """One provider's batch jobs at one place. `lines`: the file of a job, a request a line.

    Each method makes one attempt and raises `TryAgain` where another may help, `ModelError` or `RowFault` where none
    does.
    """

    max_requests: int
    max_bytes: int
    discount: float
    """What is paid, as a share of the price of a live call."""
    marks: bool
    """Whether a job bears our id, so that what `find` gives is surely ours."""

    def line(self, key: str, path: str, body: bytes) -> bytes: ...

    async def upload(self, job: Sent, lines: Path) -> str:
        """Bring the requests there; the id of the file, or nothing where they go with the job itself."""
        ...

    async def create(self, job: Sent, file: str, path: str, lines: Path) -> str:
        """Begin the job; its id."""
        ...

    async def find(self, job: Sent, known: frozenset[str]) -> str | None:
        """The id of a job that was begun without our having noted it; `known` are those of others."""
        ...

    async def status(self, remote: str) -> Status | None:
        """None where nobody knows the job any more."""
        ...

    async def fetch(self, status: Status, target: Path) -> None:
        """Write all results into a file, a line each."""
        ...

    def result(self, line: bytes) -> Result | None:
        """What a line says; None for one that says nothing of ours."""
        ...

    async def cancel(self, remote: str) -> None: ...

    async def close(self) -> None: ...


_APIS: Mapping[str, str] = {
    "openai": "openai:OpenAIBatches",
    "responses": "openai:OpenAIBatches",
    "anthropic": "anthropic:AnthropicBatches",
}


def has_batches(endpoint: Endpoint) -> bool:
    """Whether the API that is spoken at an endpoint knows batch jobs."""
    return (endpoint.api or "openai") in _APIS


class Line:
    """What both APIs share: the place, its dialect, a connection, and errors as the dialect reads them."""

    def __init__(self, name: str, endpoint: Endpoint, credentials: Credentials) -> None:
        self.place = Place(name, endpoint, credentials)
        self.dialect: Dialect = dialect_of(name, endpoint, credentials)
        self.transport = Transport(endpoint, 4)

    async def json(
        self, method: str, path: str, headers: Mapping[str, str], value: Any = None, *, gone: bool = False
    ) -> Any:
        """The JSON of a response; with `gone`, None where nothing is there."""
        body = None if value is None else orjson.dumps(value)
        return self.read(await self.transport.send(self.place.base + path, headers, body, method=method), gone=gone)

    def read(self, response: Response, *, gone: bool = False) -> Any:
        """Its JSON object; raises what the dialect says of an error."""
        status, headers, body = response
        if status in (404, 410):
            if gone:
                return None
            raise ModelError(
                f"`{self.place.name}` at {self.place.endpoint.url} knows no batch jobs (HTTP {status})",
                "Ask it live: without `--batch`, `batch=False`.",
                kind="rejected",
            )
        if status not in (200, 201):
            raise self.dialect.failure(status, headers, body)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise self.place.unreadable(body, headers, error) from None
        if not isinstance(value, dict):
            raise self.place.unreadable(body, headers, ValueError("no JSON object"))
        return value

    def outcome(self, status: int, body: bytes) -> Reply | RowFault | ModelError:
        """What a response within a job means; errors are returned."""
        try:
            return self.dialect.read(body) if status == 200 else self.dialect.failure(status, {}, body)
        except (RowFault, ModelError) as error:
            return error


def batch_api(name: str, endpoint: Endpoint, credentials: Credentials) -> BatchApi:
    """The batch API of an endpoint; raises `ModelError` where its key is missing."""
    file, _, kind = _APIS[endpoint.api or "openai"].partition(":")
    made: BatchApi = getattr(import_module(f".{file}", __package__), kind)(name, endpoint, credentials)
    return made


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file of results that are not empty."""
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield line
