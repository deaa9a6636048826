"""What asking is expected to take, for plans."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..calls.ask import Ask, scheme_of
from ..calls.prices import Price, price_of
from ..calls.reply import Usage
from ..core.plan import Expectation

if TYPE_CHECKING:
    from ..core.session import Session

CHARACTERS_PER_TOKEN = 4


def expected(
    by: Ask, session: "Session", *, rows: int | None, calls: int | None, prompt: int, reply: int
) -> Expectation:
    """An estimate for `calls` calls of `prompt` characters with replies of `reply` characters, at 4 characters a token.

    Money is known only where the model's price is: from the session's prices or the table.
    """
    if calls is None:
        return Expectation(rows=rows)
    tokens_in, tokens_out = calls * prompt // CHARACTERS_PER_TOKEN, calls * reply // CHARACTERS_PER_TOKEN
    price = price_of(by, {name: Price(*given) for name, given in session.prices.items()}, session.endpoints)
    local = not isinstance(by.model, str) or scheme_of(by.model) is not None
    cost = price.cost(Usage(tokens_in, tokens_out)) if price is not None else 0.0 if local else None
    return Expectation(rows=rows, calls=calls, tokens_in=tokens_in, tokens_out=tokens_out, cost_usd=cost)


class Load(NamedTuple):
    """Calls of one model, with the characters of a prompt and of a reply; `calls` is None where nothing is known."""

    by: Ask
    calls: int | None
    prompt: int
    reply: int


def expected_of(loads: Sequence[Load], session: "Session", *, rows: int | None) -> Expectation:
    """The sum over several models; money is known where it is for each."""
    if any(load.calls is None for load in loads):
        return Expectation(rows=rows)
    each = [
        expected(load.by, session, rows=rows, calls=load.calls, prompt=load.prompt, reply=load.reply) for load in loads
    ]
    costs = [one.cost_usd for one in each]
    return Expectation(
        rows=rows,
        calls=sum(one.calls or 0 for one in each),
        tokens_in=sum(one.tokens_in or 0 for one in each),
        tokens_out=sum(one.tokens_out or 0 for one in each),
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
    )
