"""The chat completions of OpenAI, which vLLM, SGLang, llama.cpp, Ollama and many hosts speak too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..repair import asked_in_words
from ..reply import Garbled, Reply, read_reply
from ..request import Request
from .place import Place


class OpenAIChat:
    """`POST …/chat/completions`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = place.endpoint.chat_url
        self._headers = {"Content-Type": "application/json", **place.endpoint.headers}
        if place.secret is not None:
            self._headers["Authorization"] = f"Bearer {place.secret}"

    def url(self, request: Request) -> str:
        return self._url

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        if request.sample:
            return {**self._headers, "X-Stillhouse-Sample": str(request.sample)}
        return self._headers

    def body(self, request: Request) -> bytes:
        endpoint, sampling, schema = self._place.endpoint, request.sampling, request.schema
        in_words = schema is not None and endpoint.structured != "native"
        body: dict[str, Any] = {
            "model": endpoint.model or request.model,
            "messages": asked_in_words(request) if in_words else request.messages,
        }
        chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        body |= {name: value for name, value in chosen.items() if value is not None}
        if sampling.max_tokens is not None:
            body[endpoint.max_tokens_field] = sampling.max_tokens
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed + request.sample + 1_000_003 * request.again
        if schema is not None and endpoint.structured == "native":
            strict = schema.strict_form
            shape = {"name": _identifier(schema.title), "schema": strict or schema.form, "strict": strict is not None}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif schema is not None and endpoint.structured == "object":
            body["response_format"] = {"type": "json_object"}
        return orjson.dumps(body, default=dict)

    def read(self, body: bytes) -> Reply:
        try:
            return read_reply("openai.chat", body)
        except Garbled as error:
            raise self._place.unreadable(body, {}, error) from None

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


def _identifier(title: str) -> str:
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return name[:64] or "reply"
