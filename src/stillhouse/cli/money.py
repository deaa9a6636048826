"""A run that will cost money asks first."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .parser import UsageError

if TYPE_CHECKING:
    from ..calls.ask import Ask
    from ..core.plan import Expectation, Plan
    from ..core.session import Session
    from ..core.step import Step

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Bill:
    """What a plan is expected to cost; None where a price or the number of rows is not known."""

    cost_usd: float | None
    calls: int | None
    models: tuple[str, ...]
    unpriced: tuple[str, ...] = ()
    """Models whose price nobody knows."""

    @property
    def free(self) -> bool:
        return self.cost_usd == 0.0

    def __str__(self) -> str:
        if self.cost_usd is not None:
            cost = f"about ${self.cost_usd:,.2f}" if self.cost_usd >= 0.01 else f"about ${self.cost_usd:.2g}"
        elif self.unpriced:
            cost = f"an unknown amount (no price is known of {', '.join(self.unpriced)})"
        else:
            cost = "an unknown amount (how many rows there will be is not known)"
        calls = "" if self.calls is None else f" for about {self.calls:,} calls"
        models = f" of {', '.join(self.models)}" if self.models else ""
        return f"this run will cost {cost}{calls}{models}"


def expected_bill(session: Session, step: Step[Any], plan: Plan) -> Bill:
    """The bill of the steps that will run. What runs in this process or on this machine costs nothing."""
    to_run = {planned.recipe_key: planned for planned in plan.to_run}
    cost: float | None = 0.0
    calls: int | None = 0
    models: dict[str, None] = {}
    unpriced: dict[str, None] = {}
    for each, key in _steps(step):
        planned = to_run.get(key)
        paid = [by for by in _asks(each) if _is_paid(by, session)]
        if planned is None or not paid:
            continue
        names = dict.fromkeys(by.name for by in paid)
        models |= names
        more, expectation = planned.expectation.calls, planned.expectation
        calls = None if calls is None or more is None else calls + more
        cost = None if cost is None or expectation.cost_usd is None else cost + expectation.cost_usd
        if expectation.calls is not None and expectation.cost_usd is None:
            unpriced |= names
    return Bill(cost, calls, tuple(models), tuple(unpriced))


def confirm(bill: Bill, *, yes: bool) -> None:
    """Ask on the terminal whether to spend it. Raises `UsageError` without a terminal or where the answer is no."""
    if bill.free or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        hint = "Add `--yes` to go on, with `--budget USD` for a limit."
        raise UsageError(f"{bill}, and there is no terminal to ask on", hint)
    sys.stderr.write(f"{bill}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was spent")


def all_steps(step: Step[Any]) -> list[Step[Any]]:
    """The steps of a graph, inputs first, each once."""
    return [each for each, _ in _steps(step)]


def asking_steps(step: Step[Any]) -> list[Step[Any]]:
    """Those that ask a model."""
    return [each for each in all_steps(step) if any(True for _ in _asks(each))]


def _steps(step: Step[Any]) -> Iterator[tuple[Step[Any], str]]:
    """All steps of the graph with their recipe keys, inputs first, each once."""
    from ..core.step import KeyBook

    book, seen = KeyBook(), set()

    def visit(each: Step[Any]) -> Iterator[tuple[Step[Any], str]]:
        key = book.recipe(each)
        if key in seen:
            return
        seen.add(key)
        for child in each.inputs():
            yield from visit(child)
        yield each, key

    yield from visit(step)


def _asks(step: Step[Any]) -> Iterator[Ask]:
    """The models that a step itself asks, not those of its inputs."""
    from ..calls.ask import Ask
    from ..core.node import children
    from ..core.step import Step

    def visit(node: Any) -> Iterator[Ask]:
        for child in children(node):
            if isinstance(child, Ask):
                yield child
            elif not isinstance(child, Step):
                yield from visit(child)

    yield from visit(step)


def paid_models(session: Session, step: Step[Any], changes: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a step itself asks and that cost money, with fields of each `Ask` changed."""
    return tuple(dict.fromkeys(by.name for by in _paid_asks(session, step, changes)))


def cost_of(session: Session, step: Step[Any], changes: Mapping[str, Any], expectation: Expectation) -> float | None:
    """The most that the calls of an expectation cost with fields of each `Ask` changed; None where nobody knows."""
    from ..calls.prices import price_of
    from ..calls.reply import Usage

    found = [price_of(by, session.prices, session.endpoints) for by in _paid_asks(session, step, changes)]
    known = [price for price in found if price is not None]
    calls, prompts, replies = expectation.calls, expectation.tokens_in, expectation.tokens_out
    if len(known) < len(found) or calls is None or prompts is None or replies is None:
        return None
    usage = Usage(prompts, calls * changes["max_tokens"] if changes.get("max_tokens") else replies)
    return max((price.cost(usage) for price in known), default=0.0)


def _paid_asks(session: Session, step: Step[Any], changes: Mapping[str, Any]) -> list[Ask]:
    from ..calls.again import changed

    return [by for by in (changed(by, changes) for by in _asks(step)) if _is_paid(by, session)]


def _is_paid(by: Ask, session: Session) -> bool:
    from urllib.parse import urlsplit

    from ..calls.ask import scheme_of
    from ..calls.endpoint import hosted
    from ..calls.prices import price_of

    served: Any = None if by.deployment is None else session.endpoints.get(by.deployment)
    if served is None and (not isinstance(by.model, str) or scheme_of(by.model) is not None):
        return False
    price = price_of(by, session.prices, session.endpoints)
    if price is not None:
        return any(price)
    if served is None and by.endpoint is not None:
        served = session.endpoints.get(by.endpoint, by.endpoint)
    if served is None:
        served = hosted(str(by.model))[0]
    pool = served if isinstance(served, list | tuple) else [served]
    urls = [str(getattr(each, "url", each)) for each in pool]
    return any(urlsplit(url).hostname not in LOOPBACK for url in urls)
