"""Who is asked where, with which key, and what an error response from there means."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..credentials import Credentials
from ..endpoint import Endpoint
from ..retry import TryAgain, asked_wait

_SHOWN = 300  # characters of a server's own words in our messages


class Place:
    """An endpoint on behalf of the deployment `name`; `secret` is its key, where it has one."""

    def __init__(self, name: str, endpoint: Endpoint, credentials: Credentials) -> None:
        self.name = name
        self.endpoint = endpoint
        self.secret: str | None = None
        if endpoint.api_key is not None:
            self.secret = credentials.require(endpoint.api_key, name)

    def unreadable(self, body: bytes, headers: Mapping[str, str], error: Exception) -> ModelError | RowFault:
        """What a response of status 200 means that holds no reply: some gateways report errors so."""
        found = _error_of(body)
        if found is None:
            return TryAgain("garbled", f"the response cannot be read: {error}")
        return self.failure(found.status or 500, headers, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        """What an error response means: try again, the end of the row, or the end of the step."""
        found = _error_of(body) or _ErrorBody(_shown(body), "", None)
        words = f"HTTP {status}" + (f": {self._clean(found.message)}" if found.message else "")
        where = f"`{self.name}` at {self.endpoint.url}"
        if status == 402 or found.is_quota:
            hint = "Add credit or raise the limit at the provider; every reply is kept and the same command goes on."
            return ModelError(f"the quota of {where} is used up ({words})", hint, kind="quota")
        if found.is_filtered:
            return RowFault("refused", words)
        if status in (401, 403):
            return ModelError(f"{where} refuses the key ({words})", self._key_hint(), kind="credentials")
        if status == 429:
            return TryAgain("throttled", words, wait=asked_wait(headers, time.time()))
        if status == 404 or found.is_unknown_model:
            hint = "Check the name of the model and the URL, which ends before `/chat/completions`."
            return ModelError(f"{where} knows no such model ({words})", hint, kind="unknown_model")
        if found.is_too_long or status == 413:
            return RowFault("too_long", words)
        if found.is_unsupported:
            hint = (
                "Change that field of the `Ask` (`temperature=None` leaves it to the provider), or ask another model."
            )
            return ModelError(f"{where} does not take what it is asked with ({words})", hint, kind="rejected")
        if status in (408, 409, 425) or status >= 500:
            return TryAgain("server", words, wait=asked_wait(headers, time.time()))
        return RowFault("rejected", words)

    def _key_hint(self) -> str:
        name = self.endpoint.api_key
        if name is not None:
            return f"Check the value of `{name}` in the environment or in `.env`."
        return (
            f'No key was sent. Declare where it is: Session(endpoints={{"{self.endpoint.url}": '
            f'Endpoint("{self.endpoint.url}", api_key="NAME_OF_VARIABLE")}}), `session: endpoints:` in a recipe file, '
            "or `stillhouse distill … --api-key-variable NAME_OF_VARIABLE`."
        )

    def _clean(self, text: str) -> str:
        """A server's words without our key, which some repeat."""
        return text.replace(self.secret, "***") if self.secret else text


class _ErrorBody:
    """The error object of a response: message, code and, on some gateways, a status."""

    __slots__ = ("code", "message", "status")

    def __init__(self, message: str, code: str, status: int | None) -> None:
        self.message, self.code, self.status = message, code, status

    @property
    def is_quota(self) -> bool:
        if any(word in self.code for word in ("insufficient_quota", "billing", "insufficient_balance", "credit")):
            return True
        text = self.message.lower()
        return "exceeded your current quota" in text or "credit balance" in text or "insufficient balance" in text

    @property
    def is_unknown_model(self) -> bool:
        return "model_not_found" in self.code

    @property
    def is_filtered(self) -> bool:
        """Whether it was this request's content that was judged."""
        if any(word in self.code for word in ("content_filter", "content_policy", "moderation")):
            return True
        return "flagged" in self.message.lower()

    @property
    def is_unsupported(self) -> bool:
        """Whether a parameter is not taken, which no other row changes."""
        if any(word in self.code for word in ("unsupported_value", "unsupported_parameter", "unknown_parameter")):
            return True
        words = ("unsupported value", "unsupported parameter", "unrecognized request argument")
        return self.message.lower().startswith(words)

    @property
    def is_too_long(self) -> bool:
        text = self.message.lower()
        return "context_length" in self.code or "maximum context length" in text or "context window" in text


def _error_of(body: bytes) -> _ErrorBody | None:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str):
        return _ErrorBody(error[:_SHOWN], "", None)
    if not isinstance(error, dict):
        return None
    code = f"{error.get('code') or ''} {error.get('type') or ''}"
    number = error.get("code")
    status = number if isinstance(number, int) and 400 <= number < 600 else None
    return _ErrorBody(str(error.get("message") or "")[:_SHOWN], code, status)


def _shown(body: bytes) -> str:
    return " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
