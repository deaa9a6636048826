"""How many tokens models take: a dated table of those that providers serve, and what a folder's configuration says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ask import scheme_of

if TYPE_CHECKING:
    from .ask import Ask

AS_OF = "2026-11-26"
"""The day on which the table was right, to the best of our knowledge."""

# Question and reply together; where a provider bounds the question apart (GPT-5: 272,000 of 400,000), that bound.
_SIZES: Mapping[int, str] = {
    128_000: "openai/gpt-4o openai/gpt-4o-2024-08-06 openai/gpt-4o-2024-11-20 openai/gpt-4o-mini "
    "openai/gpt-4o-mini-2024-07-18 cohere/command-r-08-2024 cohere/command-r-plus-08-2024 "
    "cohere/command-r7b-12-2024 cohere/c4ai-aya-expanse-32b mistral/open-mistral-nemo "
    "bedrock/amazon.nova-micro-v1:0",
    131_072: "deepseek/deepseek-chat deepseek/deepseek-reasoner groq/openai/gpt-oss-120b groq/openai/gpt-oss-20b "
    "together/openai/gpt-oss-120b together/openai/gpt-oss-20b",
    200_000: "openai/o3 openai/o3-2025-04-16 openai/o3-pro openai/o4-mini openai/o4-mini-2025-04-16 "
    "anthropic/claude-haiku-4-5 anthropic/claude-haiku-4-5-20251001 anthropic/claude-sonnet-4-5 "
    "anthropic/claude-sonnet-4-5-20250929 anthropic/claude-opus-4-5 anthropic/claude-opus-4-5-20251101 "
    "bedrock/global.anthropic.claude-haiku-4-5-20251001-v1:0 bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0 "
    "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
    256_000: "cohere/command-a-03-2025 mistral/mistral-large-2512 mistral/mistral-medium-3-5",
    272_000: "openai/gpt-5 openai/gpt-5-2025-08-07 openai/gpt-5-mini openai/gpt-5-mini-2025-08-07 openai/gpt-5-nano "
    "openai/gpt-5-nano-2025-08-07 openai/gpt-5-pro openai/gpt-5.1 openai/gpt-5.1-2025-11-13 openai/gpt-5.2 "
    "openai/gpt-5.2-2025-12-11 openai/gpt-5.4-mini openai/gpt-5.4-mini-2026-03-17 openai/gpt-5.4-nano "
    "openai/gpt-5.4-nano-2026-03-17",
    300_000: "bedrock/amazon.nova-lite-v1:0 bedrock/amazon.nova-pro-v1:0",
    500_000: "xai/grok-4.5",
    922_000: "openai/gpt-5.4 openai/gpt-5.4-2026-03-05 openai/gpt-5.4-pro openai/gpt-5.5 openai/gpt-5.5-2026-04-23 "
    "openai/gpt-5.5-pro openai/gpt-5.6 openai/gpt-5.6-sol openai/gpt-5.6-terra openai/gpt-5.6-luna "
    "openai/gpt-6-astra openai/gpt-6-sol openai/gpt-6-luna",
    1_000_000: "anthropic/claude-haiku-5-5 anthropic/claude-sonnet-4-6 anthropic/claude-sonnet-5 "
    "anthropic/claude-sonnet-5-5 anthropic/claude-opus-4-6 anthropic/claude-opus-4-7 anthropic/claude-opus-4-8 "
    "anthropic/claude-opus-5 anthropic/claude-opus-5-5 anthropic/claude-fable-5 anthropic/claude-fable-5-1 "
    "deepseek/deepseek-v4-flash deepseek/deepseek-v4-pro xai/grok-4.3",
    1_047_576: "openai/gpt-4.1 openai/gpt-4.1-2025-04-14 openai/gpt-4.1-mini openai/gpt-4.1-mini-2025-04-14 "
    "openai/gpt-4.1-nano",
    1_048_576: "gemini/gemini-2.5-flash gemini/gemini-2.5-flash-lite gemini/gemini-2.5-pro "
    "gemini/gemini-3-flash-preview gemini/gemini-3.1-flash-lite gemini/gemini-3.1-pro-preview "
    "gemini/gemini-3.5-flash gemini/gemini-3.5-flash-lite gemini/gemini-3.6-flash gemini/gemini-4-argon",
}  # fmt: skip
WINDOWS: Mapping[str, int] = {name: size for size, names in _SIZES.items() for name in names.split()}
"""Tokens that a question may have together with its reply, by `provider/name`."""

_SAME: Mapping[str, str] = {"responses": "openai", "vertex": "gemini"}
"""Providers that serve the models of another."""
_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length")


def window_of(by: Ask, folder: Path | None = None) -> int | None:
    """Tokens that a question and its reply may have together, or None where nobody said it.

    Of a model in a folder (`folder`, for one that a step made) its configuration says it; of one that its provider
    serves, `WINDOWS`. A server at a URL may serve any model under any name, and as little of its window as it likes;
    and a deployment is one model in keys, whatever model answers: what is asked must not rest on which.
    """
    if by.deployment is not None:
        return None
    folder = folder or model_folder(by)
    if folder is not None:
        return _configured(folder)
    if by.endpoint is not None or not isinstance(by.model, str):
        return None
    provider, _, name = by.model.partition("/")
    return WINDOWS.get(f"{_SAME.get(provider, provider)}/{name}")


def model_folder(by: Ask) -> Path | None:
    """The folder of a model that is asked by its place: `local:FOLDER`, or `vllm:FOLDER`."""
    if not isinstance(by.model, str) or scheme_of(by.model) not in ("local", "vllm"):
        return None
    folder = Path(by.model.partition(":")[2])
    return folder if folder.is_dir() else None


def _configured(folder: Path) -> int | None:
    file = folder / "config.json"
    if not file.is_file():  # an adapter, whose base may lie elsewhere
        from stillhouse.models.loading import base_of

        file = base_of(folder) / "config.json"
    if not file.is_file():
        return None
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    nested = config.get("text_config")
    for name in _FIELDS:
        found = (nested if isinstance(nested, dict) else {}).get(name) or config.get(name)
        if isinstance(found, int) and found > 0:
            return found
    return None
