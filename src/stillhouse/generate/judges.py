"""Who judges: one model or several, and what they are asked about pairs of answers."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ..calls.ask import Ask
from ..core.part import Part
from .checks import Instruction, check_tools


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Ask | str) else value


def _different(asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    if len({ask.structure for ask in asks}) < len(asks):
        raise ValueError("the same model stands there twice, and would give the same answers")
    return asks


Asks = Annotated[tuple[Ask, ...], BeforeValidator(_several), Field(min_length=1), AfterValidator(_different)]
"""Field type: one model, or a list of different ones."""


def _one_or_several(value: Any) -> Any:
    """A list of one is that one, so that both are one recipe."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _panel(by: Ask | tuple[Ask, ...]) -> Ask | tuple[Ask, ...]:
    for member in members(by):
        check_tools(member, ())
    if isinstance(by, tuple):
        if not by:
            raise ValueError("nobody is asked: name a model, or several")
        _different(by)
    return by


Panel = Annotated[Ask | tuple[Ask, ...], BeforeValidator(_one_or_several), AfterValidator(_panel)]
"""Field type: one model, or a list of different ones whose opinions count together."""


def members(by: Ask | tuple[Ask, ...]) -> tuple[Ask, ...]:
    """Who is on a panel."""
    return by if isinstance(by, tuple) else (by,)


def names_of(asks: Iterable[Ask]) -> list[str]:
    """What each is called in columns and reports: its name, numbered where another has the same."""
    found: list[str] = []
    for ask in asks:
        number = sum(name == ask.name or name.startswith(f"{ask.name} #") for name in found) + 1
        found.append(ask.name if number == 1 else f"{ask.name} #{number}")
    return found


class PairJudge(Part, tag="generate.pair_judge/1"):
    """Says which of two answers is better, asked in both orders; where the orders disagree it is a tie.

    `instruction` is a template over the columns of the row and says what better means: `Which answer to this question
    is more helpful? {{ input }}`. With several judges the answer wins that more than half of them prefer.
    """

    by: Asks
    instruction: Instruction
    ties: bool = Field(True, description="whether a judge may call it a tie")
