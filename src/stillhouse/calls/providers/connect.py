"""From an endpoint to the provider that speaks its dialect."""

from __future__ import annotations

from ..credentials import Credentials
from ..endpoint import Endpoint
from .dialect import Dialect, Watch
from .http import HttpProvider, Transport
from .openai import OpenAIChat
from .place import Place


def dialect_of(name: str, endpoint: Endpoint, credentials: Credentials) -> Dialect:
    """The dialect of an endpoint, for the deployment `name`; raises `ModelError` where its key is missing."""
    return OpenAIChat(Place(name, endpoint, credentials))


def provider_over_http(
    name: str, endpoint: Endpoint, credentials: Credentials, connections: int, watch: Watch | None = None
) -> HttpProvider:
    """The provider of an endpoint; `watch` is told status and headers of every response."""
    return HttpProvider(dialect_of(name, endpoint, credentials), Transport(endpoint, connections, watch))
