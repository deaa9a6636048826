"""Vectors over HTTP: how each API is asked for them, and how its responses are read."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from ..endpoint import Endpoint
from ..reply import NO_USAGE, Usage
from .dialect import Watch
from .embed_protocol import EmbedForm, Limits, Made
from .http import Transport
from .place import Place

_SHAPE = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # of a response that is another than promised


class EmbedDialect(Protocol):
    """One API of vectors. `read` raises one of `_SHAPE` for a response that it cannot read."""

    limits: Limits

    def url(self, place: Place, form: EmbedForm) -> str: ...

    def headers(self, place: Place) -> Mapping[str, str]: ...

    def body(self, texts: Sequence[str], form: EmbedForm) -> dict[str, Any]: ...

    def read(self, value: Any) -> Made: ...


class EmbeddingsOverHttp:
    """An API of vectors at one endpoint."""

    def __init__(self, dialect: EmbedDialect, place: Place, connections: int, watch: Watch | None = None) -> None:
        self._dialect = dialect
        self._place = place
        self._transport = Transport(place.endpoint, connections, watch)
        self._headers = {
            "Content-Type": "application/json", **place.own_headers, **dialect.headers(place)
        }  # fmt: skip

    @property
    def limits(self) -> Limits:
        return self._dialect.limits

    async def embed(self, texts: Sequence[str], form: EmbedForm) -> Made:
        dialect, place = self._dialect, self._place
        form = form._replace(model=place.endpoint.model or form.model)  # servers of a pool may name it differently
        body = orjson.dumps(dialect.body(texts, form))
        status, headers, answer = await self._transport.send(dialect.url(place, form), self._headers, body)
        if status != 200:
            raise place.failure(status, headers, answer)
        try:
            return dialect.read(orjson.loads(answer))
        except _SHAPE as error:
            raise place.unreadable(answer, headers, error) from None

    async def close(self) -> None:
        await self._transport.close()


class OpenAIEmbeddings:
    """OpenAI and what is compatible with it: vLLM, SGLang, llama.cpp, Ollama, TEI, Mistral, Together, …"""

    limits = Limits(256, 100_000)

    def url(self, place: Place, form: EmbedForm) -> str:
        return place.endpoint.url.rstrip("/") + "/embeddings"

    def headers(self, place: Place) -> Mapping[str, str]:
        return {} if place.secret is None else {"Authorization": f"Bearer {place.secret}"}

    def body(self, texts: Sequence[str], form: EmbedForm) -> dict[str, Any]:
        # Base64 is a quarter of the bytes and of the work; servers that do not know it answer in numbers.
        body: dict[str, Any] = {"model": form.model, "input": list(texts), "encoding_format": "base64"}
        return body if form.dimensions is None else {**body, "dimensions": form.dimensions}

    def read(self, value: Any) -> Made:
        items = sorted(value["data"], key=lambda item: item["index"])
        if [item["index"] for item in items] != list(range(len(items))):
            raise ValueError("the places of the vectors are not 0, 1, 2, …")
        usage = value.get("usage") or {}
        tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
        return Made(_array([item["embedding"] for item in items]), _usage(tokens))


class AzureEmbeddings(OpenAIEmbeddings):
    """OpenAI's on Azure: a URL for each deployment of a model, the version of the API, a header of its own."""

    def url(self, place: Place, form: EmbedForm) -> str:
        model, base = quote(form.model, safe=""), place.endpoint.url.rstrip("/")
        return f"{base}/openai/deployments/{model}/embeddings?api-version={place.endpoint.api_version}"

    def headers(self, place: Place) -> Mapping[str, str]:
        return {} if place.secret is None else {"api-key": place.secret}


class VoyageEmbeddings(OpenAIEmbeddings):
    """Voyage AI: as OpenAI, but that it is told what the texts are for."""

    limits = Limits(128, 60_000)

    def body(self, texts: Sequence[str], form: EmbedForm) -> dict[str, Any]:
        body: dict[str, Any] = {"model": form.model, "input": list(texts), "encoding_format": "base64"}
        if form.task is not None:
            body["input_type"] = form.task
        # Longer texts would be cut without a word.
        body["truncation"] = False
        return body if form.dimensions is None else {**body, "output_dimension": form.dimensions}


class CohereEmbeddings:
    """Cohere, API version 2."""

    limits = Limits(96, 100_000)

    def url(self, place: Place, form: EmbedForm) -> str:
        return place.endpoint.url.rstrip("/") + "/embed"

    def headers(self, place: Place) -> Mapping[str, str]:
        return {} if place.secret is None else {"Authorization": f"Bearer {place.secret}"}

    def body(self, texts: Sequence[str], form: EmbedForm) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": form.model,
            "texts": list(texts),
            "input_type": f"search_{form.task or 'document'}",
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        return body if form.dimensions is None else {**body, "output_dimension": form.dimensions}

    def read(self, value: Any) -> Made:
        billed = (value.get("meta") or {}).get("billed_units") or {}
        return Made(_array(value["embeddings"]["float"]), _usage(billed.get("input_tokens")))


class GeminiEmbeddings:
    """Gemini's own API."""

    limits = Limits(100, 20_000)

    def url(self, place: Place, form: EmbedForm) -> str:
        return f"{place.endpoint.url.rstrip('/')}/models/{form.model}:batchEmbedContents"

    def headers(self, place: Place) -> Mapping[str, str]:
        return {} if place.secret is None else {"x-goog-api-key": place.secret}

    def body(self, texts: Sequence[str], form: EmbedForm) -> dict[str, Any]:
        shared: dict[str, Any] = {"model": f"models/{form.model}"}
        if form.task is not None:
            shared["taskType"] = f"RETRIEVAL_{form.task.upper()}"
        if form.dimensions is not None:
            shared["outputDimensionality"] = form.dimensions
        return {"requests": [{**shared, "content": {"parts": [{"text": text}]}} for text in texts]}

    def read(self, value: Any) -> Made:
        return Made(_array([item["values"] for item in value["embeddings"]]))


DIALECTS: Mapping[str, tuple[Endpoint, EmbedDialect]] = {
    "cohere": (Endpoint("https://api.cohere.com/v2", api_key="COHERE_API_KEY"), CohereEmbeddings()),
    "voyage": (Endpoint("https://api.voyageai.com/v1", api_key="VOYAGE_API_KEY"), VoyageEmbeddings()),
    "gemini": (
        Endpoint("https://generativelanguage.googleapis.com/v1beta", api_key="GEMINI_API_KEY"),
        GeminiEmbeddings(),
    ),
}
"""Services with an API of their own for vectors, by the name before the slash. They are told what texts are for."""

BY_API: Mapping[str, EmbedDialect] = {
    **dict.fromkeys(("openai", "responses", "completions"), OpenAIEmbeddings()),
    "azure": AzureEmbeddings(),
    **{name: dialect for name, (_, dialect) in DIALECTS.items()},
}
"""How an endpoint is asked for vectors, by what is spoken there."""


def _array(vectors: Sequence[Any]) -> NDArray[np.float32]:
    if vectors and isinstance(vectors[0], str):
        return np.stack([np.frombuffer(base64.b64decode(vector, validate=True), "<f4") for vector in vectors])
    return np.array(vectors, np.float32)


def _usage(tokens: object) -> Usage:
    return Usage(tokens) if isinstance(tokens, int) and tokens > 0 else NO_USAGE
