"""LiteLLM's `acompletion` and its errors, as of its source (`litellm/main.py`, `litellm/exceptions.py`)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

asked: list[dict[str, Any]] = []


class _StatusError(Exception):
    status_code = 500

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"litellm.{type(self).__name__}: {message}")
        self.message = message
        self.response = SimpleNamespace(headers=headers or {})


class AuthenticationError(_StatusError):
    status_code = 401


class NotFoundError(_StatusError):
    status_code = 404


class BadRequestError(_StatusError):
    status_code = 400


class ContextWindowExceededError(BadRequestError):
    pass


class ContentPolicyViolationError(BadRequestError):
    pass


class RateLimitError(_StatusError):
    status_code = 429


class APIConnectionError(_StatusError):
    pass


class ModelResponse:
    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self._hidden_params = {"additional_headers": {"llm_provider-x-ratelimit-limit-requests": "10"}}

    def model_dump_json(self) -> str:
        return json.dumps(self._body)


FAILURES: dict[str, Exception] = {
    "key": AuthenticationError("AnthropicException - invalid x-api-key sk-very-secret"),
    "model": NotFoundError("VertexAIException - no such thing"),
    "long": ContextWindowExceededError("prompt is over the limit"),
    "policy": ContentPolicyViolationError("judged"),
    "bad": BadRequestError("what is this?"),
}
passing: list[Exception] = []


async def acompletion(model: str, messages: list[dict[str, Any]], **kwargs: Any) -> ModelResponse:
    asked.append({"model": model, "messages": messages, **kwargs})
    if passing:
        raise passing.pop()
    text = str(messages[-1]["content"])
    if text in FAILURES:
        raise FAILURES[text]
    message = {"role": "assistant", "content": f"reply to {text}", "tool_calls": None}
    return ModelResponse(
        {
            "id": "1",
            "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }
    )
