"""llama-cpp-python's chat and raw completions, as of its source (`llama_cpp/llama.py`)."""

from __future__ import annotations

from typing import Any

loaded: list[dict[str, Any]] = []
asked: list[dict[str, Any]] = []


class Llama:
    def __init__(self, model_path: str, **options: Any) -> None:
        loaded.append({"model_path": model_path, **options})

    def create_completion(
        self,
        prompt: str,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 40,
        stop: list[str] | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        asked.append({name: value for name, value in locals().items() if name != "self"})
        choice = {"text": f"{prompt} and on", "index": 0, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
        return {"id": "cmpl-1", "object": "text_completion", "model": "f", "choices": [choice], "usage": usage}

    def create_chat_completion(
        self,
        messages: list[dict[str, Any]],
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        stop: list[str] | None = None,
        seed: int | None = None,
        response_format: dict[str, Any] | None = None,
        max_tokens: int | None = None,
        tools: list[dict[str, Any]] | None = None,
        tool_choice: Any = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
    ) -> dict[str, Any]:
        asked.append({name: value for name, value in locals().items() if name != "self"})
        text = str(messages[-1]["content"])
        if len(text) > 500:
            raise ValueError(f"Requested tokens ({len(text)}) exceed context window of 500")
        reply: dict[str, Any] = {"role": "assistant", "content": f"{text} ({' '.join(m['role'][0] for m in messages)})"}
        if response_format is not None:
            reply["content"] = f'{{"said": "{text}"}}'
        if tool_choice == "auto":
            call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            reply = {"role": "assistant", "content": None, "tool_calls": [call]}
        chances = {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "file.gguf",
            "choices": [
                {"index": 0, "message": reply, "finish_reason": "stop", "logprobs": chances if logprobs else None}
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }
