"""What a caller gets: the answer of a request, judged and parsed."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from stillhouse.core.errors import RowFault

from .reply import Finish, TokenChance, ToolCall, Usage

Repaired: TypeAlias = Literal["no", "text", "asked"]
"""Whether a structured reply was mended: not at all, its text by us, or by asking once more."""


class Answer(NamedTuple):
    """A reply that can be used.

    `key` names the call whose reply this is (it goes into `Emit(calls=...)`), `keys` all calls behind it, in order.
    `usage` and `cost_usd` are those of all of them, as if paid now: they do not depend on `cached` (no call was made
    this time). `finish` is `length` for a reply that was kept although it was cut. `tool_calls` are what the model
    wants called; then there may be no text, and there is no value. `reasoning` is its thinking where the provider shows
    it, `model` the name that the answer bears, where it bears one.
    """

    text: str
    value: Any
    key: str
    finish: Finish
    usage: Usage
    cached: bool
    cost_usd: float | None
    repaired: Repaired = "no"
    earlier: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenChance, ...] | None = None
    reasoning: str | None = None
    model: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.earlier, self.key)


Outcome: TypeAlias = Answer | RowFault
