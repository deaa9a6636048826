"""LiteLLM as a bridge to providers that have no dialect here: `litellm/NAME`, with the names of LiteLLM.

Everything else stays ours: retries, pacing, the cache, prices. LiteLLM reads its keys from the environment itself.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..credentials import Credentials
from ..endpoint import HOSTS, Endpoint
from ..reply import Garbled, Reply
from ..request import Request
from ..retry import TryAgain
from .dialect import Watch
from .in_thread import library
from .openai import chat_body, read
from .place import Place

_CODES = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
    "UnsupportedParamsError": "unsupported_parameter",
    "NotFoundError": "model_not_found",
}


class LiteLLMBridge:
    """Asks by `litellm.acompletion`, without its retries and fallbacks: what failed is judged here."""

    def __init__(self, name: str, endpoint: Endpoint, credentials: Credentials, watch: Watch | None = None) -> None:
        self._name = name
        self._place = Place(name, endpoint, credentials)
        self._watch = watch
        own = HOSTS["litellm"].url
        self._more: dict[str, Any] = {"timeout": endpoint.total_timeout, "num_retries": 0, "max_retries": 0}
        if endpoint.url != own:
            self._more["base_url"] = endpoint.url
        if self._place.secret is not None:
            self._more["api_key"] = self._place.secret
        if endpoint.headers:
            self._more["extra_headers"] = dict(self._place.own_headers)

    async def ask(self, request: Request) -> Reply:
        litellm = await asyncio.to_thread(_library, self._name)
        body = orjson.loads(orjson.dumps(chat_body(request, self._place), default=dict))
        try:
            response = await litellm.acompletion(**{**self._more, **body, **dict(request.extras.extra or {})})
        except TimeoutError as error:
            raise TryAgain("timeout", f"no reply in time ({error})") from None
        except Exception as error:
            raise self._failure(error) from None
        if self._watch is not None:
            self._watch(200, _headers(response))
        wire = response.model_dump_json().encode()
        try:
            return read(wire)
        except Garbled as error:
            raise self._place.unreadable(wire, {}, error) from None

    async def close(self) -> None:
        return None

    def _failure(self, error: Exception) -> Exception:
        kind, status = type(error).__name__, getattr(error, "status_code", None)
        if kind == "APIConnectionError":
            return TryAgain("unreachable", f"nobody answers by way of LiteLLM ({error})"[:300])
        if not isinstance(status, int):
            return error if isinstance(error, ModelError | RowFault) else TryAgain("server", f"{kind}: {error}"[:300])
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        if self._watch is not None:
            self._watch(status, headers)
        told = {"message": str(getattr(error, "message", error)), "code": _CODES.get(kind, "")}
        return self._place.failure(status, headers, orjson.dumps({"error": told}))


def _library(name: str) -> Any:
    # Left to itself it looks on the network for a table of prices when it is imported, and waits for it.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return library("litellm", "litellm", name)


def _headers(response: Any) -> dict[str, str]:
    """The provider's own headers, which LiteLLM keeps beside its response under a prefix of its own."""
    hidden = getattr(response, "_hidden_params", None) or {}
    found = hidden.get("additional_headers") or {}
    return {str(name).removeprefix("llm_provider-"): str(value) for name, value in found.items()}
