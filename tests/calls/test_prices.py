"""What tokens cost: the arithmetic, whose price it is, and that the table is one of prices."""

from __future__ import annotations

import datetime as dt

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import HOSTS
from stillhouse.calls.prices import AS_OF, LIST_PRICES, Price, price_of
from stillhouse.calls.providers.embed_http import DIALECTS
from stillhouse.calls.reply import Usage


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (Price(1.0, 10.0), 1000 * 1 + 100 * 10),
        (Price(1.0, 10.0, 0.1), 600 * 1 + 400 * 0.1 + 100 * 10),
        (Price(1.0, 10.0, 0.1, 2.0), 500 * 1 + 400 * 0.1 + 100 * 2 + 100 * 10),
    ],
)
def test_what_was_read_from_and_written_to_a_prompt_cache_has_prices_of_its_own(price: Price, expected: float) -> None:
    usage = Usage(prompt_tokens=1000, reply_tokens=100, cached_tokens=400, written_tokens=100, reasoning_tokens=50)

    assert price.cost(usage) == pytest.approx(expected / 1e6)


def test_a_million_tokens_cost_the_price() -> None:
    assert Price(0.15, 0.60, 0.075).cost(Usage(1_000_000, 1_000_000)) == pytest.approx(0.75)


@pytest.mark.parametrize("name", list(LIST_PRICES))
def test_the_table_names_models_of_providers_at_prices_in_their_order(name: str) -> None:
    price = LIST_PRICES[name]
    provider, _, model = name.partition("/")

    assert model
    of_vectors = price.reply == 0
    assert provider in HOSTS or (of_vectors and provider in DIALECTS)
    assert 0 < price.prompt <= 500
    assert of_vectors or price.prompt <= price.reply <= 500
    assert price.cached is None or 0 < price.cached < price.prompt
    assert price.written is None or price.prompt < price.written <= 2 * price.prompt


def test_the_table_is_dated() -> None:
    assert dt.date.fromisoformat(AS_OF) > dt.date(2026, 1, 1)


def test_one_model_costs_the_same_by_each_of_its_apis() -> None:
    for one, other in (("responses/gpt-5", "openai/gpt-5"), ("vertex/gemini-2.5-pro", "gemini/gemini-2.5-pro")):
        assert price_of(Ask(model=one), {}, ()) == LIST_PRICES[other]


@pytest.mark.parametrize(
    "ask",
    [
        Ask(model="openai/of-tomorrow"),
        Ask(model="azure/gpt-5", endpoint="https://me.openai.azure.com"),
        Ask(model="openai/gpt-5", endpoint="http://localhost:8000/v1"),
        Ask(model="openai/gpt-5", deployment="mine"),
    ],
)
def test_what_nobody_knows_has_no_price_but_the_users(ask: Ask) -> None:
    assert price_of(ask, {}, ["mine"]) is None
    assert price_of(ask, {str(ask.model): Price(1, 2), "mine": Price(1, 2)}, ["mine"]) == Price(1, 2)
