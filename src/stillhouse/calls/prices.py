"""What tokens cost. A dated table of list prices; the session's own prices come first, unknown models have none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .reply import Usage

if TYPE_CHECKING:
    from .ask import Ask

AS_OF = "2026-11-20"
"""The day on which the table was right, to the best of our knowledge."""


class Price(NamedTuple):
    """US dollars for a million tokens.

    `cached` is the price of prompt tokens that the provider read from its prompt cache, `written` of those that it
    wrote to it; without them both cost as much as the others. Tokens of reasoning are part of the reply.
    """

    prompt: float
    reply: float
    cached: float | None = None
    written: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for these tokens."""
        cached = self.prompt if self.cached is None else self.cached
        written = self.prompt if self.written is None else self.written
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens - usage.written_tokens)
        prompt = fresh * self.prompt + usage.cached_tokens * cached + usage.written_tokens * written
        return (prompt + usage.reply_tokens * self.reply) / 1e6


Prices: TypeAlias = Mapping[str, Price]

FREE = Price(0.0, 0.0)

# Prices of live calls and of prompts of usual length: beyond 100 to 272 thousand tokens some models cost more, and
# other tiers of service cost other prices. Whoever pays those says so by prices of their own.
LIST_PRICES: Prices = {
    "openai/gpt-4o": Price(2.5, 10.0, 1.25),
    "openai/gpt-4o-2024-08-06": Price(2.5, 10.0, 1.25),
    "openai/gpt-4o-2024-11-20": Price(2.5, 10.0, 1.25),
    "openai/gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "openai/gpt-4o-mini-2024-07-18": Price(0.15, 0.6, 0.075),
    "openai/gpt-4.1": Price(2.0, 8.0, 0.5),
    "openai/gpt-4.1-2025-04-14": Price(2.0, 8.0, 0.5),
    "openai/gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "openai/gpt-4.1-mini-2025-04-14": Price(0.4, 1.6, 0.1),
    "openai/gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "openai/gpt-5": Price(1.25, 10.0, 0.125),
    "openai/gpt-5-2025-08-07": Price(1.25, 10.0, 0.125),
    "openai/gpt-5-mini": Price(0.25, 2.0, 0.025),
    "openai/gpt-5-mini-2025-08-07": Price(0.25, 2.0, 0.025),
    "openai/gpt-5-nano": Price(0.05, 0.4, 0.005),
    "openai/gpt-5-nano-2025-08-07": Price(0.05, 0.4, 0.005),
    "openai/gpt-5-pro": Price(15.0, 120.0),
    "openai/gpt-5.1": Price(1.25, 10.0, 0.125),
    "openai/gpt-5.1-2025-11-13": Price(1.25, 10.0, 0.125),
    "openai/gpt-5.2": Price(1.75, 14.0, 0.175),
    "openai/gpt-5.2-2025-12-11": Price(1.75, 14.0, 0.175),
    "openai/gpt-5.4": Price(2.5, 15.0, 0.25),
    "openai/gpt-5.4-2026-03-05": Price(2.5, 15.0, 0.25),
    "openai/gpt-5.4-mini": Price(0.75, 4.5, 0.075),
    "openai/gpt-5.4-mini-2026-03-17": Price(0.75, 4.5, 0.075),
    "openai/gpt-5.4-nano": Price(0.2, 1.25, 0.02),
    "openai/gpt-5.4-nano-2026-03-17": Price(0.2, 1.25, 0.02),
    "openai/gpt-5.4-pro": Price(30.0, 180.0),
    "openai/gpt-5.5": Price(5.0, 30.0, 0.5),
    "openai/gpt-5.5-2026-04-23": Price(5.0, 30.0, 0.5),
    "openai/gpt-5.5-pro": Price(30.0, 180.0),
    "openai/gpt-5.6": Price(4.0, 20.0, 0.4, 5.0),
    "openai/gpt-5.6-sol": Price(4.0, 20.0, 0.4, 5.0),
    "openai/gpt-5.6-terra": Price(2.0, 12.0, 0.2, 2.5),
    "openai/gpt-5.6-luna": Price(0.2, 1.2, 0.02, 0.25),
    "openai/gpt-6-astra": Price(10.0, 50.0, 1.0, 12.5),
    "openai/gpt-6-sol": Price(2.0, 10.0, 0.2, 2.5),
    "openai/gpt-6-luna": Price(0.1, 0.5, 0.01, 0.125),
    "openai/gpt-6.1-sol": Price(2.0, 10.0, 0.1, 2.5),
    "openai/gpt-6.1-terra": Price(1.0, 5.0, 0.05, 1.25),
    "openai/o3": Price(2.0, 8.0, 0.5),
    "openai/o3-2025-04-16": Price(2.0, 8.0, 0.5),
    "openai/o3-pro": Price(20.0, 80.0),
    "openai/o4-mini": Price(1.1, 4.4, 0.275),
    "openai/o4-mini-2025-04-16": Price(1.1, 4.4, 0.275),
    "anthropic/claude-haiku-4-5": Price(1.0, 5.0, 0.1, 1.25),
    "anthropic/claude-haiku-4-5-20251001": Price(1.0, 5.0, 0.1, 1.25),
    "anthropic/claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125),
    "anthropic/claude-sonnet-4-5": Price(3.0, 15.0, 0.3, 3.75),
    "anthropic/claude-sonnet-4-5-20250929": Price(3.0, 15.0, 0.3, 3.75),
    "anthropic/claude-sonnet-4-6": Price(3.0, 15.0, 0.3, 3.75),
    "anthropic/claude-sonnet-5": Price(2.0, 10.0, 0.2, 2.5),
    "anthropic/claude-sonnet-5-5": Price(2.0, 10.0, 0.1, 2.5),
    "anthropic/claude-opus-4-5": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-4-5-20251101": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-4-6": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-4-7": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-4-8": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-5": Price(5.0, 25.0, 0.5, 6.25),
    "anthropic/claude-opus-5-5": Price(4.0, 20.0, 0.2, 5.0),
    "anthropic/claude-fable-5": Price(10.0, 50.0, 1.0, 12.5),
    "anthropic/claude-fable-5-1": Price(10.0, 50.0, 0.25, 12.5),
    "gemini/gemini-2.5-flash": Price(0.3, 2.5, 0.03),
    "gemini/gemini-2.5-flash-lite": Price(0.1, 0.4, 0.01),
    "gemini/gemini-2.5-pro": Price(1.25, 10.0, 0.125),
    "gemini/gemini-3.1-flash-lite": Price(0.25, 1.5, 0.025),
    "gemini/gemini-3.1-pro-preview": Price(2.0, 12.0, 0.2),
    "gemini/gemini-3-flash-preview": Price(0.5, 3.0, 0.05),
    "gemini/gemini-3.5-flash": Price(1.5, 9.0, 0.15),
    "gemini/gemini-3.5-flash-lite": Price(0.3, 2.5, 0.03),
    "gemini/gemini-3.6-flash": Price(0.75, 3.75, 0.075),
    "gemini/gemini-3.7-flash": Price(0.75, 3.75, 0.075),
    "gemini/gemini-3.8-flash": Price(0.75, 3.75, 0.075),
    "gemini/gemini-4-hydrogen": Price(1.5, 7.5, 0.075),
    "gemini/gemini-4-argon": Price(2.0, 10.0, 0.1),
    "mistral/mistral-large-2512": Price(0.5, 1.5, 0.05),
    "mistral/mistral-large-latest": Price(0.5, 1.5, 0.05),
    "mistral/mistral-large-4": Price(0.7, 2.1, 0.07),
    "mistral/mistral-medium-2604": Price(1.5, 7.5, 0.15),
    "mistral/mistral-medium-latest": Price(1.5, 7.5, 0.15),
    "mistral/mistral-medium-3-5": Price(1.5, 7.5, 0.15),
    "mistral/mistral-small-2603": Price(0.15, 0.6, 0.015),
    "mistral/mistral-small-latest": Price(0.15, 0.6, 0.015),
    "mistral/ministral-3b-2512": Price(0.1, 0.1, 0.01),
    "mistral/ministral-8b-2512": Price(0.15, 0.15, 0.015),
    "mistral/ministral-14b-2512": Price(0.2, 0.2, 0.02),
    "mistral/magistral-medium-latest": Price(1.5, 7.5, 0.15),
    "mistral/magistral-small-latest": Price(0.15, 0.6, 0.015),
    "mistral/codestral-2508": Price(0.3, 0.9, 0.03),
    "mistral/codestral-latest": Price(0.3, 0.9, 0.03),
    "mistral/devstral-medium-latest": Price(0.4, 2.0, 0.04),
    "mistral/open-mistral-nemo": Price(0.3, 0.3, 0.03),
    "cohere/command-a-03-2025": Price(2.5, 10.0),
    "cohere/command-r-08-2024": Price(0.15, 0.6),
    "cohere/command-r-plus-08-2024": Price(2.5, 10.0),
    "cohere/command-r7b-12-2024": Price(0.0375, 0.15),
    "cohere/c4ai-aya-expanse-32b": Price(0.5, 1.5),
    "deepseek/deepseek-chat": Price(0.28, 0.42, 0.028),
    "deepseek/deepseek-reasoner": Price(0.28, 0.42, 0.028),
    "deepseek/deepseek-flash": Price(0.3, 1.2, 0.006),
    "deepseek/deepseek-v4-flash": Price(0.3, 1.2, 0.006),
    "deepseek/deepseek-v4-pro": Price(1.32, 3.96, 0.044),
    "xai/grok-4.20": Price(1.25, 2.5, 0.2),
    "xai/grok-4.3": Price(1.25, 2.5, 0.2),
    "xai/grok-4.5": Price(2.0, 6.0, 0.3),
    "xai/grok-4.6": Price(2.0, 6.0, 0.5),
    "xai/grok-4.7": Price(2.0, 6.0, 0.5),
    "groq/openai/gpt-oss-120b": Price(0.15, 0.6, 0.075),
    "groq/openai/gpt-oss-20b": Price(0.075, 0.3, 0.0375),
    "groq/qwen/qwen3.8-27b": Price(0.8, 4.0),
    "together/openai/gpt-oss-120b": Price(0.15, 0.6),
    "together/openai/gpt-oss-20b": Price(0.05, 0.2),
    "bedrock/global.anthropic.claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125),
    "bedrock/us.anthropic.claude-haiku-5-5": Price(0.11, 0.55, 0.011, 0.1375),
    "bedrock/eu.anthropic.claude-haiku-5-5": Price(0.11, 0.55, 0.011, 0.1375),
    "bedrock/global.anthropic.claude-sonnet-5-5": Price(2.0, 10.0, 0.1, 2.5),
    "bedrock/us.anthropic.claude-sonnet-5-5": Price(2.2, 11.0, 0.11, 2.75),
    "bedrock/eu.anthropic.claude-sonnet-5-5": Price(2.2, 11.0, 0.11, 2.75),
    "bedrock/global.anthropic.claude-opus-5-5": Price(4.0, 20.0, 0.2, 5.0),
    "bedrock/us.anthropic.claude-opus-5-5": Price(4.4, 22.0, 0.22, 5.5),
    "bedrock/eu.anthropic.claude-opus-5-5": Price(4.4, 22.0, 0.22, 5.5),
    "bedrock/global.anthropic.claude-haiku-4-5-20251001-v1:0": Price(1.0, 5.0, 0.1, 1.25),
    "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0": Price(1.1, 5.5, 0.11, 1.375),
    "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0": Price(1.1, 5.5, 0.11, 1.375),
    "bedrock/amazon.nova-micro-v1:0": Price(0.035, 0.14, 0.00875),
    "bedrock/amazon.nova-lite-v1:0": Price(0.06, 0.24, 0.015),
    "bedrock/amazon.nova-pro-v1:0": Price(0.8, 3.2, 0.2),
    "bedrock/us.amazon.nova-2-lite-v1:0": Price(0.33, 2.75, 0.0825),
    "bedrock/eu.amazon.nova-2-lite-v1:0": Price(0.429, 3.597, 0.10725),
    "bedrock/global.amazon.nova-2-lite-v1:0": Price(0.3, 2.5, 0.075),
    # Vectors: there is no reply to pay for.
    "openai/text-embedding-3-small": Price(0.02, 0.0),
    "openai/text-embedding-3-large": Price(0.13, 0.0),
    "openai/text-embedding-ada-002": Price(0.1, 0.0),
    "cohere/embed-v4.0": Price(0.12, 0.0),
    "cohere/embed-v5.0-pro": Price(0.12, 0.0),
    "cohere/embed-v5.0-fast": Price(0.08, 0.0),
    "voyage/voyage-3-large": Price(0.18, 0.0),
    "voyage/voyage-3.5": Price(0.06, 0.0),
    "voyage/voyage-3.5-lite": Price(0.02, 0.0),
    "voyage/voyage-4-large": Price(0.12, 0.0),
    "voyage/voyage-4": Price(0.06, 0.0),
    "voyage/voyage-4-lite": Price(0.02, 0.0),
    "gemini/gemini-embedding-001": Price(0.15, 0.0),
    "gemini/gemini-embedding-2": Price(0.2, 0.0),
    "mistral/mistral-embed": Price(0.1, 0.0),
    "mistral/codestral-embed": Price(0.15, 0.0),
}

_SAME: Mapping[str, str] = {"responses": "openai", "vertex": "gemini"}
"""Providers that ask the same for a model as another."""


def price_of(by: Ask, own: Prices, endpoints: Collection[str]) -> Price | None:
    """The user's price under the deployment or the model, else the list price of a model that its provider serves.

    `endpoints` are the deployments that stand at a place of their own, where list prices do not hold.
    """
    for name in (by.deployment, by.model):
        if isinstance(name, str) and name in own:
            return own[name]
    if by.endpoint is not None or by.deployment in endpoints or not isinstance(by.model, str):
        return None
    provider, _, name = by.model.partition("/")
    return LIST_PRICES.get(f"{_SAME.get(provider, provider)}/{name}")
