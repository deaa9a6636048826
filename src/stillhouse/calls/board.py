"""The prompts of one `ask_many`, with what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stillhouse.core.errors import RowFault

from .answer import Answer, Outcome
from .deployment import Deployment
from .engine import Engine
from .ledger import Ledger
from .repair import Case
from .reply import NO_USAGE, Reply
from .request import Prompt, Request, RequestForm, key_of


class Open(NamedTuple):
    """A prompt without an answer, and the request to make next. `case` is None until a first reply came."""

    place: int
    key: bytes
    canonical: bytes
    form: RequestForm
    prompt: Prompt
    case: Case | None = None

    def request(self) -> Request:
        if self.case is not None:
            return self.case.request
        return self.form.request_of(self.key, self.canonical, self.prompt.messages, self.prompt.sample)


class Board:
    """Outcomes by place, and the two ways to one: a kept reply and a new one."""

    def __init__(self, engine: Engine, deployment: Deployment, ledger: Ledger, num_prompts: int) -> None:
        self.engine = engine
        self.deployment = deployment
        self.ledger = ledger
        self.outcomes: list[Outcome | None] = [None] * num_prompts
        self._no_cost = deployment.cost(NO_USAGE)

    def open(self, prompts: Sequence[Prompt], form_of: Callable[[Prompt], RequestForm], first_place: int) -> list[Open]:
        """The prompts with their keys."""
        opened: list[Open] = []
        if not prompts:
            return opened
        form, schema = form_of(prompts[0]), prompts[0].schema
        for place, prompt in enumerate(prompts, first_place):
            if prompt.schema is not schema:
                form, schema = form_of(prompt), prompt.schema
            canonical = form.canonical(prompt.messages, prompt.sample)
            opened.append(Open(place, key_of(canonical), canonical, form, prompt))
        return opened

    def after_kept(self, waiting: list[Open]) -> list[Open]:
        """Answer from the cache what it knows, through all requests that leads to; returns what has to be asked."""
        missing: list[Open] = []
        num_kept = 0
        while waiting:
            kept = self.engine.cache.look_up([item.key for item in waiting])
            further: list[Open] = []
            for item in waiting:
                found = kept.get(item.key)
                reply = None if found is None else self.engine.read(item.key, found)
                if reply is None:
                    missing.append(item)
                    continue
                num_kept += 1
                after = self.take(item, reply, cached=True)
                if after is not None:
                    further.append(after)
            waiting = further
        if num_kept:
            self.ledger.entry(self.deployment.name).cached += num_kept
        return missing

    def take(self, item: Open, reply: Reply, *, cached: bool) -> Open | None:
        """Judge a reply: the prompt has its outcome, or what is returned is to be asked."""
        form = item.form
        if reply.form == "text" and item.case is None and form.schema is None and reply.text.strip():
            # What `Case` would say, at a fifth of its price: long cached lists and instant models live from it.
            key = item.key.hex()
            self.outcomes[item.place] = Answer(reply.text, None, key, "stop", NO_USAGE, cached, self._no_cost)
            return None
        case = item.case or Case(form, item.request(), self.deployment.price)
        found = case.judge(reply, cached=cached)
        if isinstance(found, Request):
            return Open(item.place, found.key, found.canonical, form, item.prompt, case)
        self.outcomes[item.place] = found
        return None

    def complete(self) -> list[Outcome]:
        """All outcomes, in order, counted."""
        outcomes = [outcome for outcome in self.outcomes if outcome is not None]
        assert len(outcomes) == len(self.outcomes)
        count_outcomes(self.ledger, self.deployment.name, outcomes)
        return outcomes


def count_outcomes(ledger: Ledger, name: str, outcomes: Sequence[Outcome]) -> None:
    failed = repaired = 0
    for outcome in outcomes:
        if isinstance(outcome, RowFault):
            failed += 1
        elif outcome.repaired != "no":
            repaired += 1
    if failed or repaired:
        totals = ledger.entry(name)
        totals.failed += failed
        totals.repaired += repaired
