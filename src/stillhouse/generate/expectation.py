"""What asking is expected to take, for plans."""

from typing import TYPE_CHECKING

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
