"""vLLM's `LLM`: signatures and results as of its source (`vllm/entrypoints/llm.py`, `vllm/outputs.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

loaded: list[dict[str, Any]] = []
batches: list[int] = []
MAX_MODEL_LEN = 500


@dataclass
class StructuredOutputsParams:
    json: dict[str, Any] | None = None


@dataclass
class SamplingParams:
    """Unknown fields are a TypeError, as with the real one."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    structured_outputs: StructuredOutputsParams | None = None
    thinking_token_budget: int | None = None


@dataclass
class Logprob:
    logprob: float
    rank: int
    decoded_token: str


@dataclass
class CompletionOutput:
    text: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    num_cached_tokens: int | None = None


class LLM:
    def __init__(self, model: str, **options: Any) -> None:
        loaded.append({"model": model, **options})

    def chat(
        self,
        messages: list[list[dict[str, Any]]],
        sampling_params: list[SamplingParams],
        use_tqdm: bool = True,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> list[RequestOutput]:
        batches.append(len(messages))
        for conversation in messages:
            length = sum(len(str(message["content"])) for message in conversation)
            if length > MAX_MODEL_LEN:
                raise ValueError(
                    f"The prompt (length {length}) is longer than the maximum model length of {MAX_MODEL_LEN}."
                )
        return [
            self._output(conversation, params, chat_template_kwargs)
            for conversation, params in zip(messages, sampling_params, strict=True)
        ]

    def generate(
        self, prompts: list[str], sampling_params: list[SamplingParams], use_tqdm: bool = True
    ) -> list[RequestOutput]:
        batches.append(len(prompts))
        return [
            self._output([{"role": "raw", "content": prompt}], params, None)
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    def _output(
        self, messages: list[dict[str, Any]], params: SamplingParams, kwargs: dict[str, Any] | None
    ) -> RequestOutput:
        asked = str(messages[-1]["content"])
        text = f"{asked} ({' '.join(message['role'][0] for message in messages)}, seed {params.seed}, {kwargs})"
        if params.structured_outputs is not None:
            text = f'{{"said": "{asked}"}}'
        tokens = list(range(len(text)))
        finish = "stop"
        if params.max_tokens is not None and len(tokens) > params.max_tokens:
            tokens, text, finish = tokens[: params.max_tokens], text[: params.max_tokens], "length"
        logprobs = None
        if params.logprobs is not None:
            other = {10_000: Logprob(-3.0, 2, "?")} if params.logprobs > 1 else {}
            logprobs = [{token: Logprob(-0.5, 1, text[token]), **other} for token in tokens]
        return RequestOutput([1] * 7, [CompletionOutput(text, tokens, finish, logprobs)], num_cached_tokens=3)
