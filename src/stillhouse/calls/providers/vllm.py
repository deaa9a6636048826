"""vLLM without a server: `vllm:NAME` loads a model in this process and answers in large batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.core.errors import ModelError, RowFault

from ..request import Request
from .in_thread import InThread, chat_reply, fault_of, library, prefix_of
from .openai import openai_messages
from .protocol import Answered
from .schemas import as_object
from .writing import messages_of, seed_of

_AT_ONCE = 256  # between two commits: vLLM has as many in flight by default


class OfflineVllm(InThread):
    """`model` is a name of the hub or a folder; `options` are arguments of vLLM's `LLM`, made when first asked."""

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        super().__init__(f"vllm:{model}")
        self._model = model
        self._options = options
        self._engine: Any = None  # vLLM's `LLM`

    async def close(self) -> None:
        await super().close()
        self._engine = None

    def answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        return self._settled(requests, _alike(requests[:_AT_ONCE]))  # which takes as long as it takes

    def _settled(self, requests: Sequence[Request], places: Sequence[int]) -> list[Answered]:
        """The outcome of each; vLLM refuses a whole list for one that is too long, so that is found by halves."""
        try:
            return list(zip(places, self._asked(requests, places), strict=True))
        except (ValueError, RowFault) as error:
            if len(places) == 1:
                return [(places[0], error if isinstance(error, RowFault) else fault_of(error))]
        middle = len(places) // 2
        return [*self._settled(requests, places[:middle]), *self._settled(requests, places[middle:])]

    def _asked(self, requests: Sequence[Request], places: Sequence[int]) -> list[Any]:
        engine = self._loaded()
        params = [self._params(requests[place]) for place in places]
        prefixes = [prefix_of(requests[place]) for place in places]
        if prefixes[0] is not None:
            outputs = engine.generate(prefixes, sampling_params=params, use_tqdm=False)
            return [chat_reply(_body(self._model, output)) for output in outputs]
        messages = [self._messages(requests[place]) for place in places]
        kwargs = (requests[places[0]].extras.extra or {}).get("chat_template_kwargs")
        more = {} if kwargs is None else {"chat_template_kwargs": dict(kwargs)}
        outputs = engine.chat(messages, sampling_params=params, use_tqdm=False, **more)
        return [chat_reply(_body(self._model, output)) for output in outputs]

    def _loaded(self) -> Any:
        if self._engine is None:
            vllm = library("vllm", "vllm", self.name)
            self._engine = vllm.LLM(model=self._model, **self._options)
        return self._engine

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        messages = messages_of(request, None if self._mode(request) == "native" else "prompt")
        return [dict(message) for message in openai_messages(messages)]

    def _mode(self, request: Request) -> str:
        mode = request.extras.structured or "native"
        if mode not in ("native", "prompt"):
            raise ModelError(
                f"`{self.name}` cannot be asked for JSON by `{mode}`", "Say `native` or `prompt`.", kind="rejected"
            )
        return mode

    def _params(self, request: Request) -> Any:
        sampling, extras = request.sampling, request.extras
        if extras.tools or extras.effort is not None:
            raise ModelError(
                f"`{self.name}` takes no tools and no effort without a server",
                "Serve the model with `vllm serve` and ask it by `endpoint=`.",
                kind="rejected",
            )
        module = library("vllm.sampling_params", "vllm", self.name)
        fields: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop) or None,
            "seed": seed_of(request),
            "logprobs": extras.logprobs,
            "thinking_token_budget": extras.thinking,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        fields["max_tokens"] = sampling.max_tokens  # None is all the room there is; left out, it would be 16
        schema = request.schema
        if schema is not None and self._mode(request) == "native":
            fields["structured_outputs"] = module.StructuredOutputsParams(json=as_object(schema.form))
        own = {name: value for name, value in (extras.extra or {}).items() if name != "chat_template_kwargs"}
        return module.SamplingParams(**{**fields, **own})


def _alike(requests: Sequence[Request]) -> list[int]:
    """Places of requests that go to the engine together: one call has one set of template arguments, or no template."""

    def kind(request: Request) -> tuple[bool, Any]:
        return prefix_of(request) is None, (request.extras.extra or {}).get("chat_template_kwargs")

    wanted = kind(requests[0])
    return [place for place, request in enumerate(requests) if kind(request) == wanted]


def _body(model: str, output: Any) -> dict[str, Any]:
    """vLLM's `RequestOutput` in the form of OpenAI's chat."""
    first = output.outputs[0]
    if first.finish_reason == "abort":
        raise RowFault("error", "vLLM gave the request up")
    prompt, reply = len(output.prompt_token_ids or ()), len(first.token_ids)
    message = {"role": "assistant", "content": first.text}
    logprobs = None if first.logprobs is None else {"content": _logprobs(first.token_ids, first.logprobs)}
    return {
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": first.finish_reason, "logprobs": logprobs}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": reply,
            "total_tokens": prompt + reply,
            "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens or 0},
        },
    }


def _logprobs(token_ids: Sequence[int], places: Sequence[Mapping[int, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for token, chances in zip(token_ids, places, strict=True):
        told = [
            {"token": chance.decoded_token or "", "logprob": chance.logprob}
            for chance in sorted(chances.values(), key=lambda chance: -chance.logprob)
        ]
        found.append(
            {"token": chances[token].decoded_token or "", "logprob": chances[token].logprob, "top_logprobs": told}
        )
    return found
