"""From an endpoint to the provider that speaks its dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from ..credentials import Credentials
from ..endpoint import Endpoint
from .dialect import Dialect, Notice, Watch
from .http import HttpProvider, Transport
from .place import Place
from .protocol import Provider

_DIALECTS: Mapping[str, str] = {
    "openai": "openai:OpenAIChat",
    "azure": "openai:AzureChat",
    "completions": "completions:TextCompletions",
    "responses": "responses:OpenAIResponses",
    "anthropic": "anthropic:AnthropicMessages",
    "gemini": "gemini:Gemini",
    "vertex": "gemini:Vertex",
    "bedrock": "bedrock:BedrockConverse",
    "cohere": "cohere:CohereChat",
}
"""The class of each API: a new provider is a file here, a line in this table, and a row of the contract test."""


def dialect_of(name: str, endpoint: Endpoint, credentials: Credentials) -> Dialect:
    """The dialect of an endpoint, for the deployment `name`; raises `ModelError` where its key is missing."""
    file, _, kind = _DIALECTS[endpoint.api or "openai"].partition(":")
    made: Callable[[Place], Dialect] = getattr(import_module(f".{file}", __package__), kind)
    return made(Place(name, endpoint, credentials))


def provider_over_http(
    name: str,
    endpoint: Endpoint,
    credentials: Credentials,
    connections: int,
    watch: Watch | None = None,
    notice: Notice | None = None,
) -> Provider:
    """The provider of an endpoint; `watch` is told status and headers of every response, `notice` what is odd."""
    if endpoint.api == "litellm":
        from .litellm import LiteLLMBridge

        return LiteLLMBridge(name, endpoint, credentials, watch)
    return HttpProvider(
        dialect_of(name, endpoint, credentials), Transport(endpoint, connections, watch), endpoint, notice
    )
