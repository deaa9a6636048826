"""Asking again about rows that failed although a reply was kept: with a sample index that no reply has yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import EXHAUSTED, RecipeError, RowFault
from stillhouse.core.events import Bus

from .answer import Answer, Outcome
from .ask import Ask, ask_of
from .ledger import Ledger
from .request import Message, Prompt, prompts_of

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema

    from .service import Calls

SAMPLES = 1_000_000
"""Sample indices of one attempt: those of the next begin after them."""


class AskedAgain:
    """The call service as rows see it whose replies were no good.

    `attempt` counts from 1; `changes` are fields of the `Ask` that are different this time. Without `kinds` every
    question is a new one. With `kinds` a question is put as before, which a kept reply answers, and anew only where
    that fails so and no earlier attempt mended it: of several replies to one row the good ones are not paid again. What
    got no answer before is simply asked, as nothing is kept. All else is the service's own.
    """

    def __init__(
        self, calls: Any, attempt: int, changes: Mapping[str, Any], kinds: Collection[str] | None = None
    ) -> None:
        self._calls = calls
        self._offset = attempt * SAMPLES
        self._changes = dict(changes)
        self._kinds = None if kinds is None else set(kinds) - {EXHAUSTED}
        self._earlier: list[dict[str, Any]] = [{}]

    def after(self, earlier: Iterable[Mapping[str, Any]]) -> AskedAgain:
        """The same, knowing what was different in the attempts before this one: so their replies are found."""
        for changes in map(dict, earlier):
            if changes not in self._earlier:
                self._earlier.append(changes)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def ask(
        self,
        by: Ask | str,
        messages: str | Sequence[Message],
        *,
        schema: Schema | None = None,
        sample: int = 0,
        **more: Any,
    ) -> Answer:
        """As `Calls.ask`."""
        by = ask_of(by)
        if self._kinds is not None:
            try:
                found: Answer = await self._calls.ask(by, messages, schema=schema, sample=sample, **more)
                return found
            except RowFault as fault:
                if fault.kind not in self._kinds:
                    raise
            (known,) = await self._kept(by, [Prompt(messages, schema, sample)])
            if isinstance(known, RowFault):
                raise known
            if known is not None:
                return known
        again, other = changed(by, self._changes), sample + self._offset
        answer: Answer = await self._calls.ask(again, messages, schema=schema, sample=other, **more)
        return answer

    async def ask_many(self, by: Ask | str, prompts: Sequence[Prompt | str], **more: Any) -> list[Outcome]:
        """As `Calls.ask_many`."""
        by, prompts = ask_of(by), prompts_of(prompts)
        if self._kinds is None:
            return await self._anew(by, prompts, **more)
        outcomes: list[Outcome] = await self._calls.ask_many(by, prompts, **more)
        bad = [
            place
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, RowFault) and outcome.kind in self._kinds
        ]
        new = []
        for place, known in zip(bad, await self._kept(by, [prompts[at] for at in bad]), strict=True):
            if known is None:
                new.append(place)
            else:
                outcomes[place] = known
        if new:
            for place, outcome in zip(new, await self._anew(by, [prompts[at] for at in new], **more), strict=True):
                outcomes[place] = outcome
        return outcomes

    async def _kept(self, by: Ask, prompts: Sequence[Prompt]) -> list[Outcome | None]:
        """What the attempts before this one came to, as far as it is not what is tried again; nobody is asked."""
        from .counting import NOT_KEPT, Counting
        from .service import Calls

        if self._offset == SAMPLES:
            return [None] * len(prompts)
        found: list[Outcome | None] = [None] * len(prompts)
        kinds = {*(self._kinds or ()), NOT_KEPT, EXHAUSTED}
        looking = Calls(self._calls._engine, self._calls._deployments, Ledger(Bus()))  # on nobody's bill
        looking.counting = Counting()
        for offset in range(SAMPLES, self._offset, SAMPLES):
            for changes in self._earlier:
                left = [place for place, known in enumerate(found) if known is None]
                if not left:
                    return found
                shifted = [prompts[at]._replace(sample=prompts[at].sample + offset) for at in left]
                outcomes = await _looked(looking, changed(by, changes), shifted)
                for place, outcome in zip(left, outcomes, strict=True):
                    if not (isinstance(outcome, RowFault) and outcome.kind in kinds):
                        found[place] = outcome
        return found

    async def _anew(self, by: Ask, prompts: Sequence[Prompt], **more: Any) -> list[Outcome]:
        shifted = [prompt._replace(sample=prompt.sample + self._offset) for prompt in prompts]
        outcomes: list[Outcome] = await self._calls.ask_many(changed(by, self._changes), shifted, **more)
        return outcomes


async def _looked(looking: Calls, by: Ask, prompts: Sequence[Prompt]) -> list[Outcome]:
    """What is kept for these; with `cache_only` one at a time, as what is not kept is an error there."""
    from .counting import NOT_KEPT

    if not looking._engine.cache_only:
        return await looking.ask_many(by, prompts)
    outcomes: list[Outcome] = []
    for prompt in prompts:
        try:
            outcomes += await looking.ask_many(by, [prompt])
        except RecipeError as error:
            outcomes.append(RowFault(NOT_KEPT, error.message))
    return outcomes


def asked_again(calls: Callable[[], Any], attempt: int, changes: Mapping[str, Any], kinds: Any) -> Callable[[], Any]:
    """The same for a service that is opened when it is first used."""
    return lambda: AskedAgain(calls(), attempt, changes, kinds)


def changed(by: Ask, changes: Mapping[str, Any]) -> Ask:
    """The `Ask` with fields that are different. Another model or server leaves its deployment, which names its own."""
    if by.deployment is not None and not changes.keys().isdisjoint(("model", "endpoint")):
        changes = {**changes, "deployment": None}
    return by.replace(**changes) if changes else by


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for what cannot be changed about an `Ask`, before anything is asked."""
    who = {} if "model" in changes else {"model": "openai/any"}
    if "deployment" in changes:
        raise RecipeError("`deployment` cannot be changed for some rows", "It vouches for all that answers under it.")
    Ask(**{**who, **changes})
