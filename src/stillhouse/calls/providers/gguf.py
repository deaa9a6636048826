"""llama.cpp without a server: `gguf:FILE` loads a quantised model in this process; requests are answered one by one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..reply import Garbled, Reply
from ..request import Request
from .completions import read as read_completion
from .in_thread import InThread, chat_reply, fault_of, library, prefix_of
from .openai import openai_messages
from .protocol import Answered
from .schemas import as_object
from .writing import messages_of, seed_of

_WHOLE_CONTEXT = 0  # llama.cpp's word for the length that the model was trained with


class GgufModel(InThread):
    """`options` are arguments of llama-cpp-python's `Llama`. The file is loaded when first asked."""

    def __init__(self, file: Path, options: Mapping[str, Any]) -> None:
        super().__init__(f"gguf:{file}")
        self._file = file
        self._options = options
        self._llama: Any = None  # llama-cpp-python's `Llama`

    async def close(self) -> None:
        await super().close()
        self._llama = None

    def answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        until = time.monotonic() + seconds
        answered: list[Answered] = []
        for place, request in enumerate(requests):
            answered.append((place, self._answer(request)))
            if time.monotonic() > until:
                break
        return answered

    def _answer(self, request: Request) -> Reply | RowFault | ModelError:
        try:
            prefix = prefix_of(request)
            if prefix is not None:
                return self._gone_on(prefix, request)
            return chat_reply(self._loaded().create_chat_completion(**self._arguments(request)))
        except (RowFault, ModelError) as error:
            return error
        except Garbled as error:
            return RowFault("error", f"llama.cpp gave what is no reply: {error}")
        except ValueError as error:
            return fault_of(error)

    def _gone_on(self, prefix: str, request: Request) -> Reply:
        arguments = self._arguments(request._replace(extras=request.extras._replace(logprobs=None)))
        known = ("temperature", "top_p", "max_tokens", "stop", "seed", *(request.extras.extra or {}))
        settings = {name: value for name, value in arguments.items() if name in known}
        # Its own default is 16 tokens; None is all the room there is.
        body = self._loaded().create_completion(prefix, **{"max_tokens": None, **settings})
        return read_completion(orjson.dumps(body, default=str))

    def _loaded(self) -> Any:
        if self._llama is None:
            llama_cpp = library("llama_cpp", "gguf", self.name)
            options = {"n_ctx": _WHOLE_CONTEXT, "n_gpu_layers": -1, "verbose": False, **self._options}
            self._llama = llama_cpp.Llama(model_path=str(self._file), **options)
        return self._llama

    def _arguments(self, request: Request) -> dict[str, Any]:
        sampling, extras = request.sampling, request.extras
        mode = extras.structured or "native"
        if mode not in ("native", "object", "prompt") or extras.effort is not None or extras.thinking is not None:
            raise ModelError(
                f"`{self.name}` takes no effort, no budget of thoughts and no JSON by tool call",
                "Leave them out; `structured` is native, object or prompt.",
                kind="rejected",
            )
        in_words = request.schema is not None and mode != "native"
        messages = messages_of(request, "prompt" if in_words else None)
        found: dict[str, Any] = {
            "messages": [dict(message) for message in openai_messages(messages)],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "seed": seed_of(request),
        }
        if request.schema is not None and mode != "prompt":
            form = {} if mode == "object" else {"schema": as_object(request.schema.form)}
            found["response_format"] = {"type": "json_object", **form}
        if extras.tools:
            found["tools"] = [{"type": "function", "function": dict(tool)} for tool in extras.tools]
            choice = extras.tool_choice
            named = choice not in (None, "auto", "none", "required")
            found["tool_choice"] = {"type": "function", "function": {"name": choice}} if named else choice
        if extras.logprobs is not None:
            found |= {"logprobs": True, "top_logprobs": extras.logprobs}
        return {name: value for name, value in found.items() if value is not None} | dict(extras.extra or {})
