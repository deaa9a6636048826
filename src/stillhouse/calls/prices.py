"""What tokens cost. A dated table of list prices; the session's own prices come first, unknown models have none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .reply import Usage

if TYPE_CHECKING:
    from .ask import Ask

AS_OF = "2025-10-01"
"""The day on which the table was right, to the best of our knowledge."""


class Price(NamedTuple):
    """US dollars for a million tokens; `cached` is the price of prompt tokens that the provider had seen before."""

    prompt: float
    reply: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for these tokens."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.prompt + usage.cached_tokens * cached + usage.reply_tokens * self.reply) / 1e6


Prices: TypeAlias = Mapping[str, Price]

FREE = Price(0.0, 0.0)

LIST_PRICES: Prices = {
    "openai/gpt-4o": Price(2.50, 10.00, 1.25),
    "openai/gpt-4o-mini": Price(0.15, 0.60, 0.075),
    "openai/gpt-4.1": Price(2.00, 8.00, 0.50),
    "openai/gpt-4.1-mini": Price(0.40, 1.60, 0.10),
    "openai/gpt-4.1-nano": Price(0.10, 0.40, 0.025),
    "openai/gpt-5": Price(1.25, 10.00, 0.125),
    "openai/gpt-5-mini": Price(0.25, 2.00, 0.025),
    "openai/gpt-5-nano": Price(0.05, 0.40, 0.005),
    "openai/o3": Price(2.00, 8.00, 0.50),
    "openai/o4-mini": Price(1.10, 4.40, 0.275),
    "deepseek/deepseek-chat": Price(0.28, 0.42, 0.028),
    "deepseek/deepseek-reasoner": Price(0.28, 0.42, 0.028),
}


def price_of(by: Ask, own: Prices, endpoints: Collection[str]) -> Price | None:
    """The user's price under the deployment or the model, else the list price of a model that its provider serves.

    `endpoints` are the deployments that stand at a place of their own, where list prices do not hold.
    """
    for name in (by.deployment, by.model):
        if isinstance(name, str) and name in own:
            return own[name]
    if by.endpoint is not None or by.deployment in endpoints or not isinstance(by.model, str):
        return None
    return LIST_PRICES.get(by.model)
