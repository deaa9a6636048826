"""What asking is expected to take, for plans."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from ..calls.ask import Ask, scheme_of
from ..calls.embedder import Embedder
from ..calls.embedder import scheme_of as embedder_scheme
from ..calls.prices import price_of
from ..calls.reply import Usage
from ..core.plan import Expectation

if TYPE_CHECKING:
    from ..core.session import Session

CHARACTERS_PER_TOKEN = 4
_TEXTS_PER_CALL = 64


def expected(
    by: Ask, session: "Session", *, rows: int | None, calls: int | None, prompt: int, reply: int
) -> Expectation:
    """An estimate for `calls` calls of `prompt` characters with replies of `reply` characters, at 4 characters a token.

    Money is known only where the model's price is: from the session's prices or the table.
    """
    if calls is None:
        return Expectation(rows=rows)
    tokens_in, tokens_out = calls * prompt // CHARACTERS_PER_TOKEN, calls * reply // CHARACTERS_PER_TOKEN
    price = price_of(by, session.prices, session.endpoints)
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


def expected_embedding(
    by: Embedder | None, session: "Session", *, rows: int | None, texts: int | None, characters: int = 400
) -> Expectation:
    """An estimate for vectors of `texts` texts, some sixty of which go into one call; of none, where `by` is None."""
    local = by is None or not isinstance(by.model, str) or embedder_scheme(by.model) is not None
    if texts is None or by is None:
        return Expectation(rows=rows, calls=0 if by is None else None)
    tokens = texts * characters // CHARACTERS_PER_TOKEN
    price = price_of(cast(Ask, by), session.prices, session.endpoints)  # names its model and endpoint as an `Ask` does
    cost = price.cost(Usage(tokens)) if price is not None else 0.0 if local else None
    hashed = isinstance(by.model, str) and embedder_scheme(by.model) == "hash"
    calls = 0 if hashed else -(-texts // _TEXTS_PER_CALL)
    return Expectation(rows=rows, calls=calls, tokens_in=tokens, tokens_out=0, cost_usd=cost)
