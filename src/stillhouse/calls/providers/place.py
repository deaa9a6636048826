"""Who is asked where, with which key, and what an error response from there means.

One reading of errors serves all providers: their bodies differ in where the message stands, and gateways pass each
other's on, so that a body of one kind comes from a server of another.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..credentials import Credentials
from ..endpoint import Endpoint
from ..reply import Garbled, Reply
from ..retry import TryAgain, asked_wait

_MOST = 20_000  # bytes of a body that are looked at for words
_LEAST_SECRET = 6  # characters of a header's value that is worth hiding
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHOWN = 300  # characters of a server's own words in our messages
_READ = 200  # characters of them that are searched for words: what comes after may quote the request


class Place:
    """An endpoint on behalf of the deployment `name`; `secret` is its key, where it has one."""

    def __init__(self, name: str, endpoint: Endpoint, credentials: Credentials) -> None:
        self.name = name
        self.endpoint = endpoint
        self.credentials = credentials
        self.base = endpoint.url.rstrip("/")
        self.secret: str | None = None
        self._hidden: tuple[str, ...] = ()
        self.own_headers = {name: self._filled(value) for name, value in endpoint.headers.items()}
        """Those of the endpoint, with the values of the variables that they name."""
        self._in_headers = self._hidden
        if endpoint.api_key is not None:
            self.secret = credentials.require(endpoint.api_key, name)
            self.hide(self.secret)

    def _filled(self, value: str) -> str:
        """A header's value; it may be a secret itself, written into it or by a variable, and is shown to nobody."""

        def secret(found: re.Match[str]) -> str:
            known = self.credentials.require(found[1], self.name)
            self.hide(known)
            return known

        filled = _VARIABLE.sub(secret, value)
        if len(filled) >= _LEAST_SECRET:
            self._hidden = (filled, *self._hidden)  # whole before its parts
        return filled

    def hide(self, *secrets: str) -> None:
        """Never show these, whoever repeats them."""
        self._hidden = (*self._hidden, *secrets)

    @property
    def bearer(self) -> dict[str, str]:
        """The header of a key that is a bearer token; nothing without a key."""
        return {} if self.secret is None else {"Authorization": f"Bearer {self.secret}"}

    def headers(self, own: Mapping[str, str]) -> dict[str, str]:
        """The headers of every request: those of the endpoint, and an API's own."""
        return {"Content-Type": "application/json", **self.own_headers, **own}

    def reply(self, read: Callable[[bytes], Reply], body: bytes) -> Reply:
        """What `read` makes of a response's body; raises what that means instead, where it is no reply."""
        try:
            return read(body)
        except Garbled as error:
            raise self.unreadable(body, {}, error) from None

    def unreadable(self, body: bytes, headers: Mapping[str, str], error: Exception) -> ModelError | RowFault:
        """What a response of status 200 means that holds no reply: some gateways report errors so."""
        found = _Trouble.read(200, headers, body)
        if found is None:
            return TryAgain("garbled", f"the response cannot be read: {error}")
        return self._meaning(found.status or _status_of(found), headers, found)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        """What an error response means: try again, the end of the row, or the end of the step."""
        found = _Trouble.read(status, headers, body) or _Trouble(self._words(body), "", None, None)
        return self._meaning(status, headers, found)

    def _meaning(self, status: int, headers: Mapping[str, str], found: _Trouble) -> ModelError | RowFault:
        words = f"HTTP {status}" + (f": {self._clean(found.message)[:_SHOWN]}" if found.message else "")
        if status == 402 or found.is_quota(status):
            hint = "Add credit or raise the limit at the provider; every reply is kept and the same command goes on."
            return ModelError(f"the quota of {self._where} is used up ({words})", hint, kind="quota")
        if found.is_filtered:
            return RowFault("refused", words)
        if found.is_unknown_model(status):
            return ModelError(f"{self._where} knows no such model ({words})", self._model_hint(), kind="unknown_model")
        if status in (401, 403, 498) or found.is_wrong_key:
            return ModelError(f"{self._where} refuses the key ({words})", self._key_hint(), kind="credentials")
        if found.is_too_long or status == 413:
            return RowFault("too_long", words)
        if status == 429:
            return TryAgain("throttled", words, wait=self._wait(headers, found))
        if status < 500 and found.is_wrong_schema:
            hint = "Ask for JSON in another way, by `structured` of the `Ask` or the endpoint: tool, object or prompt."
            return ModelError(f"{self._where} does not take the JSON Schema ({words})", hint, kind="rejected")
        if status < 500 and found.is_unsupported:
            hint = (
                "Change that field of the `Ask` (`temperature=None` leaves it to the provider), or ask another model."
            )
            return ModelError(f"{self._where} does not take what it is asked with ({words})", hint, kind="rejected")
        if _passes(status, headers):
            return TryAgain("server", words, wait=self._wait(headers, found))
        return RowFault("rejected", words)

    @property
    def _where(self) -> str:
        return f"`{self.name}` at {self.endpoint.url}"

    def _wait(self, headers: Mapping[str, str], found: _Trouble) -> float | None:
        asked = asked_wait(headers, time.time())
        return found.wait if asked is None else asked

    def _model_hint(self) -> str:
        return (
            "Check the name of the model, and the URL, which ends before `/chat/completions` or what the API adds. "
            "The server is asked for what comes after the provider: if it knows its model as `openai/x`, write "
            "`openai/openai/x`. Models of OpenAI's newer API are asked as `responses/NAME`."
        )

    def _key_hint(self) -> str:
        name = self.endpoint.api_key
        if name is not None:
            return f"Check the value of `{name}` in the environment or in `.env`."
        if self._hidden != self._in_headers:
            return "Check the keys in the environment or in `.env`; keys that are lent for a time may have expired."
        return (
            f'No key was sent. Declare where it is: Session(endpoints={{"{self.endpoint.url}": '
            f'Endpoint("{self.endpoint.url}", api_key="NAME_OF_VARIABLE")}}), `session: endpoints:` in a recipe file, '
            "or `stillhouse distill … --api-key-variable NAME_OF_VARIABLE`."
        )

    def _words(self, body: bytes) -> str:
        """The beginning of a body that is no JSON; cleaned before it is cut, as half of a key is hard to recognise."""
        return self._clean(" ".join(body[:_MOST].decode("utf-8", "replace").split()))[:_SHOWN]

    def _clean(self, text: str) -> str:
        """A server's words without our keys, which some repeat."""
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text


def _passes(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may be taken later: by what the server says of it, else by the status."""
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    return status in (408, 409, 424, 425, 499) or status >= 500


def _any_of(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.DOTALL)


_QUOTA_CODES = _any_of("insufficient_quota", "billing", "insufficient_balance", "credit", "servicequotaexceeded")
_QUOTA_WORDS = _any_of(
    "exceeded your current quota", "credit balance", "insufficient (balance|credits|funds)", "out of credits",
    "used all available credits", "spending limit", "specified api usage limits", "monthly included credits",
    "credit limit exceeded", r"calls / month", "requires billing", "billing (hard limit|to be enabled|is disabled)",
)  # fmt: skip
_FILTER_CODES = _any_of("content_filter", "content_policy", "moderation", "responsibleaipolicy", "invalid_prompt")
_FILTER_WORDS = _any_of(
    "flagged", "content management policy", "content filter", "usage guidelines", "blocked by .{0,20}(safety|policy)",
)  # fmt: skip
_MODEL_CODES = _any_of("model_not_found", "model_not_supported", "deploymentnotfound", "invalid_model")
_MODEL_WORDS = _any_of(
    r"\bmodel\b.{0,80}\b(not found|does not exist|not exist|is invalid)", "(unknown|invalid|not a valid|no such) model",
    "access to (the )?model",
)  # fmt: skip
_KEY_CODES = _any_of("api_key_invalid", "invalid_api_key", "authentication", "expiredtoken", "unrecognizedclient",
                     "invalidsignature", "incompletesignature", "missingauthentication")  # fmt: skip
_KEY_WORDS = _any_of("api key (not valid|expired)", "security token included in the request is (invalid|expired)")
_LONG_CODES = _any_of("context_length", "exceed_context_size", "string_above_max_length", "request_too_large")
_LONG_WORDS = _any_of(
    "maximum context length", "context window", "context length", "context size", "(prompt|input) is too long",
    "too many (input )?tokens", "input token count", "maximum number of tokens", "max_new_tokens` must be",
    "request too large", "reduce the length",
    r"max_(completion_)?tokens must be at least 1, got (-|0)",  # what is left for the reply when the prompt fills it
)  # fmt: skip
_SCHEMA_CODES = _any_of("invalid_json_schema")
_NOT = r"(not support|n't support|unsupported|unavailable|not available|not permitted|not allowed|not enabled)"
_SHAPE = r"(response.?(format|(json.?)?schema)|json.?(schema|mode)|structured.?output|output_?config\.(text)?format)"
_SCHEMA_WORDS = _any_of(
    "invalid schema", "compiled grammar", rf"{_NOT}.{{0,60}}{_SHAPE}",
    rf"({_SHAPE}|input_schema)\b.{{0,90}}({_NOT}|invalid|must|should|unknown)",
)  # fmt: skip
_FIELD_CODES = _any_of("unsupported_value", "unsupported_parameter", "unknown_parameter", "extra_forbidden")
_FIELDS = (
    r"\b(temperature|top_?p|top_?k|max_(completion_|output_)?tokens|stop|seed|response_?format|tools|tool_?choice|"
    r"toolconfig|(top_)?logprobs|reasoning(_effort)?|effort|thinking\w*|output_?config|prefill|json (mode|schema))\b"
)
_FIELD_WORDS = _any_of(
    r"^unsupported (value|parameter)", "unrecognized request argument", "extra (inputs|fields) (are )?not permitted",
    "unknown (name|parameter|field)", rf"({_NOT}|unrecognized).{{0,60}}{_FIELDS}",
    rf"{_FIELDS}.{{0,80}}({_NOT}|deprecated|may (only|not)|can only|non-default|must be)",
    rf"{_FIELDS}.{{0,80}}(maximum allowed|too large|at most)",
)  # fmt: skip


class _Trouble(NamedTuple):
    """The error in a response: message, codes in lower case, the status and the seconds to wait that it says itself."""

    message: str
    code: str
    status: int | None
    wait: float | None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes) -> _Trouble | None:
        """The error object of a response, whoever wrote it; None where there is none."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, dict):
            return None
        error = value.get("error") or _of_choice(value)
        if not isinstance(error, dict):
            message = error or _said(value)
            if status == 200 and error is None:
                return None
            error = {**value, "message": message}
        codes = [error.get(name) for name in ("code", "type", "status", "__type", "error_type", "reason")]
        codes += [value.get("error_type"), headers.get("x-amzn-errortype")]
        inner = error.get("innererror")
        if isinstance(inner, dict):
            codes.append(inner.get("code"))
        details = error.get("details")
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict):
                codes += [detail.get("reason"), *_quotas(detail)]
        number = next((code for code in codes if isinstance(code, int) and 400 <= code < 600), None)
        return cls(_message(error), " ".join(str(code) for code in codes if code).lower(), number, _delay(details))

    @property
    def _words(self) -> str:
        return self.message[:_READ].lower()

    def _is(self, codes: re.Pattern[str], words: re.Pattern[str]) -> bool:
        return bool(codes.search(self.code) or words.search(self._words))

    def is_quota(self, status: int) -> bool:
        if self.wait is not None and "perday" not in self.code and "insufficient" not in self.code:
            return False  # Google has the same words for a minute's quota, and says when it is over
        return status < 500 and (self._is(_QUOTA_CODES, _QUOTA_WORDS) or "perday" in self.code)

    @property
    def is_filtered(self) -> bool:
        """Whether it was this request's content that was judged."""
        return self._is(_FILTER_CODES, _FILTER_WORDS)

    def is_unknown_model(self, status: int) -> bool:
        return status == 404 or (status < 500 and status != 429 and self._is(_MODEL_CODES, _MODEL_WORDS))

    @property
    def is_wrong_key(self) -> bool:
        return self._is(_KEY_CODES, _KEY_WORDS)

    @property
    def is_too_long(self) -> bool:
        return self._is(_LONG_CODES, _LONG_WORDS)

    @property
    def is_wrong_schema(self) -> bool:
        return self._is(_SCHEMA_CODES, _SCHEMA_WORDS)

    @property
    def is_unsupported(self) -> bool:
        """Whether a parameter is not taken, which no other row changes."""
        return self._is(_FIELD_CODES, _FIELD_WORDS)


_STATUS_OF_CODES = (
    ("insufficient_quota", 429),
    ("billing", 402),
    ("invalid_api_key", 401),
    ("authentication", 401),
    ("permission", 403),
    ("rate_limit", 429),
    ("overloaded", 529),
    ("not_found", 404),
    ("invalid_request", 400),
)


def _status_of(found: _Trouble) -> int:
    """The status of an error that came with status 200 and says none, by its code."""
    for words, status in _STATUS_OF_CODES:
        if words in found.code:
            return status
    return 500


def _of_choice(value: Mapping[str, Any]) -> Any:
    """The error inside of the first choice, where gateways put what their provider said."""
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _said(value: Mapping[str, Any]) -> Any:
    return next((value[name] for name in ("message", "Message", "detail", "errors") if value.get(name)), None)


def _message(error: Mapping[str, Any]) -> str:
    message = _said(error) or ""
    text = message if isinstance(message, str) else orjson.dumps(message, default=str).decode()
    about = error.get("metadata")
    raw = about.get("raw") if isinstance(about, dict) else None
    return _unwrapped(f"{text}: {raw}" if isinstance(raw, str) else text)


def _unwrapped(text: str) -> str:
    """A gateway's words with what its provider said in them: the message alone of an error that is quoted as JSON."""
    start = text.find('{"')
    if start < 0:
        return text
    try:
        quoted = orjson.loads(text[start : text.rfind("}") + 1])
    except orjson.JSONDecodeError:
        return text
    inner = quoted.get("error", quoted) if isinstance(quoted, dict) else None
    said = _said(inner) if isinstance(inner, dict) else inner
    return f"{text[:start]}{said}" if isinstance(said, str) and said else text


def _quotas(detail: Mapping[str, Any]) -> list[Any]:
    violations = detail.get("violations")
    found = violations if isinstance(violations, list) else []
    return [violation.get("quotaId") for violation in found if isinstance(violation, dict)]


def _delay(details: object) -> float | None:
    """The `retryDelay` of Google's errors, `34.07s`."""
    for detail in details if isinstance(details, list) else ():
        found = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(found, str) and re.fullmatch(r"\d+(\.\d+)?s", found):
            return float(found[:-1])
    return None
