"""Asking again about rows that failed although a reply was kept: with a sample index that no reply has yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import EXHAUSTED, RecipeError, RowFault

from .answer import Answer, Outcome
from .ask import Ask
from .request import Message, Prompt

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema

SAMPLES = 1_000_000
"""Sample indices of one attempt: those of the next begin after them."""


class AskedAgain:
    """The call service as rows see it whose replies were no good.

    `attempt` counts from 1; `changes` are fields of the `Ask` that are different this time. Without `kinds` every
    question is a new one. With `kinds` a question is put as before, which a kept reply answers, and anew only where
    that fails so: of several replies to one row the good ones are not paid again. What got no answer before is simply
    asked, as nothing is kept. All else is the service's own.
    """

    def __init__(
        self, calls: Any, attempt: int, changes: Mapping[str, Any], kinds: Collection[str] | None = None
    ) -> None:
        self._calls = calls
        self._offset = attempt * SAMPLES
        self._changes = dict(changes)
        self._kinds = None if kinds is None else set(kinds) - {EXHAUSTED}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def ask(
        self, by: Ask, messages: str | Sequence[Message], *, schema: Schema | None = None, sample: int = 0, **more: Any
    ) -> Answer:
        """As `Calls.ask`."""
        if self._kinds is not None:
            try:
                found: Answer = await self._calls.ask(by, messages, schema=schema, sample=sample, **more)
                return found
            except RowFault as fault:
                if fault.kind not in self._kinds:
                    raise
        again, other = self._changed(by), sample + self._offset
        answer: Answer = await self._calls.ask(again, messages, schema=schema, sample=other, **more)
        return answer

    async def ask_many(self, by: Ask, prompts: Sequence[Prompt], **more: Any) -> list[Outcome]:
        """As `Calls.ask_many`."""
        if self._kinds is None:
            return await self._anew(by, prompts, **more)
        outcomes: list[Outcome] = await self._calls.ask_many(by, prompts, **more)
        bad = [
            place
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, RowFault) and outcome.kind in self._kinds
        ]
        if bad:
            for place, outcome in zip(bad, await self._anew(by, [prompts[at] for at in bad], **more), strict=True):
                outcomes[place] = outcome
        return outcomes

    async def _anew(self, by: Ask, prompts: Sequence[Prompt], **more: Any) -> list[Outcome]:
        shifted = [prompt._replace(sample=prompt.sample + self._offset) for prompt in prompts]
        outcomes: list[Outcome] = await self._calls.ask_many(self._changed(by), shifted, **more)
        return outcomes

    def _changed(self, by: Ask) -> Ask:
        return by.replace(**self._changes) if self._changes else by


def asked_again(calls: Callable[[], Any], attempt: int, changes: Mapping[str, Any], kinds: Any) -> Callable[[], Any]:
    """The same for a service that is opened when it is first used."""
    return lambda: AskedAgain(calls(), attempt, changes, kinds)


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for what cannot be changed about an `Ask`, before anything is asked."""
    who = {} if "model" in changes else {"model": "openai/any"}
    if "deployment" in changes:
        raise RecipeError("`deployment` cannot be changed for some rows", "It vouches for all that answers under it.")
    Ask(**{**who, **changes})
