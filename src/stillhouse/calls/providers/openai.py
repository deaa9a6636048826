"""OpenAI-compatible chat completions over HTTP: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama and many others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..credentials import Credentials
from ..endpoint import Endpoint
from ..repair import asked_in_words
from ..reply import Garbled, Reply, read_reply
from ..request import Request
from ..retry import TryAgain, asked_wait

_SHOWN = 300  # characters of a server's own words in our messages


class OpenAICompatible:
    """One endpoint. The connection pool has `connections` places; one session for one event loop."""

    def __init__(self, name: str, endpoint: Endpoint, credentials: Credentials, connections: int) -> None:
        self._name = name
        self._endpoint = endpoint
        self._connections = connections
        self._headers = {"Content-Type": "application/json", **endpoint.headers}
        self._secret: str | None = None
        if endpoint.api_key is not None:
            self._secret = credentials.require(endpoint.api_key, name)
            self._headers["Authorization"] = f"Bearer {self._secret}"
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Request) -> Reply:
        headers = {"X-Stillhouse-Sample": str(request.sample)} if request.sample else None
        try:
            # No task of a redirect: a POST that is moved would be asked twice, and its key sent elsewhere.
            async with self._open().post(
                self._endpoint.chat_url, data=self._body(request), headers=headers, allow_redirects=False
            ) as response:
                status, body = response.status, await response.read()
                response_headers = response.headers
        except aiohttp.ClientConnectorCertificateError as error:
            raise ModelError(
                f"the certificate of {self._endpoint.url} is not trusted ({error.certificate_error})",
                kind="unreachable",
            ) from None
        except aiohttp.ConnectionTimeoutError as error:
            raise TryAgain("unreachable", f"nobody answers at {self._endpoint.url} ({error})") from None
        except aiohttp.ClientConnectorError as error:
            raise TryAgain("unreachable", f"nobody answers at {self._endpoint.url} ({error.os_error})") from None
        except TimeoutError as error:
            raise TryAgain("timeout", f"no reply in time ({error})") from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise TryAgain("reset", f"the connection broke off ({type(error).__name__}: {error})") from None
        except aiohttp.ClientError as error:
            raise TryAgain("garbled", f"the server does not speak HTTP as it should ({error})") from None
        if status != 200:
            raise self._failure(status, response_headers, body)
        return self._read(body, response_headers)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets transports see that they are closed
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            endpoint = self._endpoint
            timeout = aiohttp.ClientTimeout(
                total=endpoint.total_timeout, sock_connect=endpoint.connect_timeout, sock_read=endpoint.read_timeout
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, limit_per_host=0),
                timeout=timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _body(self, request: Request) -> bytes:
        endpoint, sampling, schema = self._endpoint, request.sampling, request.schema
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

    def _read(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            return read_reply("openai.chat", body)
        except Garbled as error:
            found = _error_of(body)
            if found is not None:  # some gateways report errors with status 200
                raise self._failure(found.status or 500, headers, body) from None
            raise TryAgain("garbled", f"the response cannot be read: {error}") from None

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        found = _error_of(body) or _ErrorBody(_shown(body), "", None)
        words = f"HTTP {status}" + (f": {self._clean(found.message)}" if found.message else "")
        where = f"`{self._name}` at {self._endpoint.url}"
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
        name = self._endpoint.api_key
        if name is not None:
            return f"Check the value of `{name}` in the environment or in `.env`."
        return (
            f'No key was sent. Declare where it is: Session(endpoints={{"{self._endpoint.url}": '
            f'Endpoint("{self._endpoint.url}", api_key="NAME_OF_VARIABLE")}}), `session: endpoints:` in a recipe file, '
            "or `stillhouse distill … --api-key-variable NAME_OF_VARIABLE`."
        )

    def _clean(self, text: str) -> str:
        """A server's words without our key, which some repeat."""
        return text.replace(self._secret, "***") if self._secret else text


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
        value = orjson.loads(body)
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


def _identifier(title: str) -> str:
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return name[:64] or "reply"
