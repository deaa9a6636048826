"""Limits on money and calls: by run, day and step, kept across processes, told before they are reached."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.budget import Budget, Purse
from stillhouse.calls.cache import DAY
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.reply import Usage, own_reply
from stillhouse.calls.service import CallService
from stillhouse.core.errors import BudgetError, RecipeError
from stillhouse.core.events import Event
from tests.calls.helpers import asking, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer
from tests.calls.voices import Said

TEACHER = Ask(model="scripted:teacher", max_tokens=1000)
PRICES = {"scripted:teacher": Price(0.0, 1000.0)}
"""A reply of a thousand tokens is a dollar."""


def dollar_replies() -> None:
    script("teacher", lambda messages, schema, sample: own_reply("x", usage=Usage(0, 1000)), latency=0.0)


def ask(folder: Path, texts: list[str], budget: Budget, step: str = "", events: list[Event] | None = None) -> list[str]:
    async def work(service: CallService) -> list[str]:
        calls = service.scope(step) if step else service
        outcomes = await calls.ask_many(TEACHER, prompts(texts))
        return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]

    return with_service(folder, work, events, budget=budget, prices=PRICES, concurrency=1)


def test_a_days_limit_holds_over_sessions_and_what_was_paid_is_kept(tmp_path: Path) -> None:
    dollar_replies()
    budget = Budget(per_day=5.5)
    ask(tmp_path, ["a", "b", "c"], budget)

    with pytest.raises(BudgetError, match=r"the day's budget of \$5.5 is used up: \$5.0000 spent") as caught:
        ask(tmp_path, ["d", "e", "f", "g"], budget)

    assert "tomorrow (UTC)" in (caught.value.hint or "")
    assert ask(tmp_path, ["a", "b", "c", "d", "e"], budget) == ["x"] * 5  # from the cache
    assert ask(tmp_path, ["d", "e", "f", "g"], Budget(per_day=8)) == ["x"] * 4  # resumed with a larger one


def test_a_day_begins_at_midnight_utc() -> None:
    class Known:
        def spent_usd(self, *, day: int | None = None, step: str | None = None) -> float:
            return {0: 3.0, 1: 0.0}[day or 0]

    now = [DAY / 1000 - 1.0]
    purse = Purse(Budget(per_day=3.5), Known(), clock=lambda: now[0])

    async def reserve() -> None:
        await purse.reserve(1.0, "m")

    with pytest.raises(BudgetError):
        asyncio.run(reserve())
    now[0] += 2.0
    asyncio.run(reserve())


def test_a_steps_limit_counts_all_attempts_at_it_and_no_other_step(tmp_path: Path) -> None:
    dollar_replies()
    budget = Budget(per_step=2.5)
    ask(tmp_path, ["a", "b"], budget, "one")
    with pytest.raises(BudgetError, match="the budget of the step one"):
        ask(tmp_path, ["c"], budget, "one")
    assert ask(tmp_path, ["c", "d"], budget, "two") == ["x", "x"]


def test_calls_at_once_do_not_pass_a_limit_together(tmp_path: Path) -> None:
    teacher = script("teacher", lambda messages, schema, sample: own_reply("x", usage=Usage(0, 1000)), latency=0.02)

    async def work(service: CallService) -> None:
        await service.scope("one").ask_many(TEACHER, prompts(f"q{number}" for number in range(40)))

    for budget in (Budget(usd=4.5), Budget(per_day=8.5), Budget(per_step=12.5)):
        with pytest.raises(BudgetError):
            with_service(tmp_path, work, budget=budget, prices=PRICES, concurrency=16)
    assert teacher.num_calls == 12


def test_four_fifths_are_told_once(tmp_path: Path) -> None:
    dollar_replies()
    events: list[Event] = []
    ask(tmp_path, list("abcd"), Budget(usd=4.5, per_day=100), events=events)
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    assert warnings == ["$4.00 of the run's budget ($4.5) are spent"]


def test_a_price_that_nobody_knows_stops_any_budget_of_money(tmp_path: Path) -> None:
    purse = Purse(Budget(per_step=1.0))
    with pytest.raises(BudgetError, match="the price of `m` is not known"):
        asyncio.run(purse.reserve(None, "m", step="s"))
    asyncio.run(Purse(Budget(calls=1)).reserve(None, "m"))


@pytest.mark.parametrize("name", ["usd", "calls", "per_day", "per_step"])
def test_a_negative_budget_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=name):
        Budget(**{name: -1})


@pytest.mark.parametrize("short_first", [0, 12])
def test_a_burst_of_long_replies_does_not_pass_the_budget_before_it_is_billed(tmp_path: Path, short_first: int) -> None:
    """Replies that think for 20,000 tokens ($1.20 each) where nothing bounds them and nobody knows it beforehand."""

    def behave(call: Call) -> Act:
        return Act(said=Said("x", prompt_tokens=100, reply_tokens=20_000 if call.number >= short_first else 20))

    asked = prompts(f"q{number}" for number in range(300))
    spent: list[float] = []

    async def work(service: CallService) -> None:
        try:
            await service.ask_many(asking(server), asked)
        finally:
            spent.append(service.purse.spent_usd)

    with MisbehavingServer(behave=behave, latency=0.05) as server, pytest.raises(BudgetError, match="is used up"):
        with_service(
            tmp_path, work, budget=Budget(usd=20.0), prices={"openai/teacher": Price(1.0, 60.0)}, concurrency=100
        )

    assert 15 < spent[0] <= (30 if short_first else 20)  # a burst of a hundred costs $120
    assert server.peak_in_flight > 4
    assert server.num_calls < 300


def test_the_length_that_is_asked_for_at_most_is_put_by_however_short_replies_were(tmp_path: Path) -> None:
    def behave(call: Call) -> Act:
        return Act(said=Said("x", prompt_tokens=0, reply_tokens=10 if call.number < 20 else 1000))

    asked = prompts(f"q{number}" for number in range(200))
    with MisbehavingServer(behave=behave, latency=0.02) as server:

        async def work(service: CallService) -> float:
            with pytest.raises(BudgetError, match="the next call may cost"):
                await service.ask_many(asking(server, max_tokens=1000), asked)
            return service.purse.spent_usd

        prices = {"openai/teacher": Price(0.0, 1000.0)}  # a dollar for a thousand tokens
        spent = with_service(tmp_path, work, budget=Budget(usd=10.0), prices=prices, concurrency=64)

    assert 8 < spent <= 10
