"""The prompts of one `ask_many`, with what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from stillhouse.core.errors import RowFault

from .answer import Answer, Outcome
from .deployment import Deployment
from .engine import Engine, Faults, Look
from .ledger import Ledger
from .repair import Case, plain_answer
from .reply import NO_USAGE, Reply
from .request import Prompt, Request, RequestForm, Tool

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema

    from .cache import Kept


FormOf: TypeAlias = "Callable[[Schema | None, tuple[Tool, ...]], RequestForm]"
"""What requests share that have a schema and tools of their own."""


class Open(NamedTuple):
    """A prompt without an answer, and the request to make next. `case` is None until a first reply came."""

    place: int
    key: bytes
    canonical: bytes
    form: RequestForm
    prompt: Prompt
    case: Case | None = None
    looked: Look | None = None
    """When the cache did not know the request."""

    def request(self) -> Request:
        if self.case is not None:
            return self.case.request
        return self.form.request_of(self.key, self.canonical, self.prompt.messages, self.prompt.sample)


class Board:
    """Outcomes by place, and the two ways to one: a kept reply and a new one."""

    def __init__(
        self,
        engine: Engine,
        deployment: Deployment,
        ledger: Ledger,
        num_prompts: int,
        faults: Faults | None = None,
    ) -> None:
        self.engine = engine
        self.deployment = deployment
        self.ledger = ledger
        self.faults: Faults = {} if faults is None else faults
        """What requests of the step ended in for good."""
        self.outcomes: list[Outcome | None] = [None] * num_prompts
        self._unwritable: dict[int, RowFault] = {}
        self._no_cost = deployment.cost(NO_USAGE)

    def begin(self, prompts: Sequence[Prompt], form_of: FormOf, first: int) -> list[Open]:
        """Take up prompts, the first at place `first`; answers those that are kept and returns what has to be asked.

        Plain replies that are kept are answered here, without the steps that others go through: long lists live by it.
        """
        outcomes, price, read = self.outcomes, self.deployment.price, self.engine.read
        keys, canonicals, forms = self._keyed(prompts, form_of)
        unwritable, self._unwritable = self._unwritable, {}
        looked = self.engine.landings.look()
        kept = self.engine.cache.look_up(keys)
        self.engine.found.note(self.ledger.step, kept)
        waiting: list[Open] = []
        for number, key in enumerate(keys):
            if unwritable and number in unwritable:
                outcomes[first + number] = unwritable[number]
                continue
            found = kept.get(key)
            form = forms[number]
            if found is not None and form.schema is None:
                answer: Answer | None = None
                if found[0] == "text":
                    text = found[1].decode("utf-8", "surrogatepass")
                    if text and not text.isspace():
                        answer = Answer(text, None, key.hex(), "stop", NO_USAGE, True, self._no_cost)
                elif (reply := read(key, found)) is not None:
                    answer = plain_answer(form, key, reply, price, True)
                if answer is not None:
                    outcomes[first + number] = answer
                    continue
            waiting.append(Open(first + number, key, canonicals[number], form, prompts[number], None, looked))
        if len(waiting) + len(unwritable) < len(keys):
            self.ledger.entry(self.deployment.name).cached += len(keys) - len(waiting) - len(unwritable)
        return self.after_kept(waiting, kept)

    def _keyed(self, prompts: Sequence[Prompt], form_of: FormOf) -> tuple[list[bytes], list[bytes], list[RequestForm]]:
        keys: list[bytes] = []
        canonicals: list[bytes] = []
        forms: list[RequestForm] = []
        last: tuple[Schema | None, tuple[Tool, ...], RequestForm] | None = None
        for messages, schema, sample, tools in prompts:
            if last is None or last[0] is not schema or last[1] is not tools:
                last = schema, tools, form_of(schema, tools)
            try:
                canonical = last[2].canonical(messages, sample)
            except orjson.JSONEncodeError as error:
                canonical = b""
                self._unwritable[len(keys)] = not_json(error)
            canonicals.append(canonical)
            keys.append(blake2b(canonical, digest_size=16).digest())
            forms.append(last[2])
        return keys, canonicals, forms

    def after_kept(self, waiting: list[Open], kept: dict[bytes, Kept] | None = None) -> list[Open]:
        """Answer from the cache what it knows, through all requests that leads to; returns what has to be asked.

        `kept` is what was looked up for them, where it was.
        """
        missing: list[Open] = []
        num_kept = 0
        while waiting:
            if kept is None:
                kept = self.engine.cache.look_up([item.key for item in waiting])
                self.engine.found.note(self.ledger.step, kept)
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
            waiting, kept = further, None
        if self.engine.cache_only:
            self.engine.check_may_ask(self.deployment.name, [item.canonical for item in missing])
        if num_kept:
            self.ledger.entry(self.deployment.name).cached += num_kept
        return missing

    def take(self, item: Open, reply: Reply, *, cached: bool) -> Open | None:
        """Judge a reply: the prompt has its outcome, or what is returned is to be asked."""
        form = item.form
        if reply.form == "text" and item.case is None and form.schema is None and reply.text.strip():
            # What `Case` would say, at a fifth of its price, for models that answer at once.
            key = item.key.hex()
            self.outcomes[item.place] = Answer(reply.text, None, key, "stop", NO_USAGE, cached, self._no_cost)
            return None
        if item.case is None:
            answer = plain_answer(form, item.key, reply, self.deployment.price, cached)
            if answer is not None:
                self.outcomes[item.place] = answer
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


def not_json(error: Exception) -> RowFault:
    """Half a character (a lone surrogate), or an object that no message holds."""
    return RowFault("rejected", f"the prompt cannot be sent, as JSON has no form for it ({error})")


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
