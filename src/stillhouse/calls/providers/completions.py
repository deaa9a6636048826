"""Raw text completions, as vLLM, SGLang and llama.cpp have them beside their chat: no template, no roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.core.errors import ModelError, RowFault

from ..reply import Garbled, Reply, TokenChance, parsed, whole_text
from ..request import Request
from .openai import finish_of, model_name, sampled, usage_of
from .place import Place
from .writing import Body, not_taken, seed_of, written


class TextCompletions:
    """`POST …/completions`: the model goes on from the texts of the messages, put together as they are."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = place.base + "/completions"
        self._headers = place.headers(place.bearer)

    def url(self, request: Request) -> str:
        return self._url

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        return written(_body(request, self._place), request.extras.extra)

    def read(self, body: bytes) -> Reply:
        try:
            return read(body)
        except Garbled as error:
            raise self._place.unreadable(body, {}, error) from None

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


def raw_text(request: Request) -> str:
    """What the model goes on from. Raises `RowFault` for messages that hold more than text."""
    texts = [message.get("content") for message in request.messages]
    if not all(isinstance(text, str) for text in texts):
        raise RowFault("rejected", "a completion goes on from text alone: no images, no parts")
    return "".join(str(text) for text in texts)


def _body(request: Request, place: Place) -> Body:
    sampling, extras = request.sampling, request.extras
    if request.schema is not None:
        raise not_taken(place, "way to ask for JSON", "Ask the chat of the same server, or for text.")
    if extras.tools or extras.effort is not None or extras.thinking is not None:
        raise not_taken(place, "tools and no setting for thinking", "Ask the chat of the same server.")
    body: Body = {"model": place.endpoint.model or request.model, "prompt": raw_text(request)}
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": seed_of(request),
        "logprobs": extras.logprobs,
    }
    body |= {name: value for name, value in settings.items() if value is not None}
    return body


def read(wire: bytes) -> Reply:
    """The reply of a completion; raises `Garbled`."""
    value = parsed(wire)
    try:
        choice = value["choices"][0]
        text, finish, chances = choice["text"], choice.get("finish_reason"), choice.get("logprobs")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled(f"no `choices[0].text` in the response ({type(error).__name__}: {error})") from None
    return Reply(
        whole_text(text if isinstance(text, str) else ""),
        finish_of(finish),
        usage_of(value.get("usage")),
        None,
        "openai.completion",
        wire,
        logprobs=_logprobs(chances),
        model=model_name(value.get("model")),
    )


def _logprobs(chances: Any) -> tuple[TokenChance, ...] | None:
    """Log-probabilities as completions have them: lists side by side."""
    if not isinstance(chances, dict) or not isinstance(chances.get("tokens"), list):
        return None
    values, tops = chances.get("token_logprobs") or [], chances.get("top_logprobs") or []
    found = []
    for place, token in enumerate(chances["tokens"]):
        value = values[place] if place < len(values) else None
        top = tops[place] if place < len(tops) and isinstance(tops[place], dict) else {}
        if isinstance(value, int | float):
            others = tuple((whole_text(str(name)), float(chance)) for name, chance in top.items())
            found.append(TokenChance(whole_text(str(token)), float(value), others))
    return tuple(found)
