"""One generation after the other, and what is thrown away on the way."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.context import Context
from ..core.errors import EXHAUSTED, RowFault
from ..core.outcome import Drop, Emit, Made, Row
from ..rows.transform import lacks, missing_column
from ..text.ngrams import words
from ._asking import AsyncMapper, failed, reply_schema, talked_through, text_of
from .evolve import METHODS

if TYPE_CHECKING:
    from .evolve import Evolve

NAME = "Evolve"
DEEPER = """\
Rewrite the instruction below, which somebody gives to an assistant, so that it is a little harder.

{method}

The result must make sense, stand by itself and be something that people understand and can answer. Leave tables, code
and other data in it as they are. Make it 10 to 20 words longer at most. Write it as its author would, without a word
about the rewriting.

<instruction>
{text}
</instruction>"""
REWRITTEN = """\
Rewrite the instruction below, which somebody gives to an assistant.

{method}

The result must make sense and stand by itself. Write it as its author would, without a word about the rewriting.

<instruction>
{text}
</instruction>"""
BROADER = """\
Write a new instruction that somebody might give to an assistant. Take the one below as inspiration: stay in its field,
but ask for something else that is rarer, and about as long and as hard. It must make sense, stand by itself and be
something that people understand and can answer.

<instruction>
{text}
</instruction>"""
SAME = """\
Do these two instructions ask for the same? They do when they have the same constraints and requirements, and the same
depth and breadth.

<first>
{before}
</first>

<second>
{after}
</second>"""
COPIED = (
    *(f"{which} {what}" for which in ("given", "rewritten", "evolved") for what in ("prompt", "instruction")),
    "#rewritten prompt#",
    "#created prompt#",
)
SORRY, SHORT = re.compile(r"\b(sorry|apologi[sz]e|unable to|can(?:no|')t (?:help|assist|answer))\b"), 80
STOP_WORDS = frozenset(
    words(
        "a an and are as at be but by can do for from had has have he her his i if in is it its me my of on or our "
        "she so that the their them then there these they this to was we were what when which who will with you your"
    )
)
EVOLVED = reply_schema("EvolvedInstruction", instruction={"type": "string"})
EQUAL = reply_schema("EqualInstructions", equal={"type": "boolean"})


class Stage(NamedTuple):
    """An instruction and the calls that led to it."""

    text: str
    calls: tuple[str, ...] = ()


def evolver(step: Evolve, context: Context) -> AsyncMapper:
    source = context.get(step.rows)
    for name in (step.input, *step.carry):
        if lacks(source, name):
            raise missing_column(NAME, name, source.columns)
    return talked_through(_Evolution(step, context.calls).of)


def methods_of(step: Evolve, row_id: str) -> list[str]:
    """The method of each generation of a row."""
    known = sorted(step.methods)
    return [random.Random(f"{step.seed}:{row_id}:{made}").choice(known) for made in range(1, step.generations + 1)]


class _Evolution:
    def __init__(self, step: Evolve, calls: Any) -> None:
        self._step = step
        self._calls = calls
        given = step.methods
        self._own = isinstance(given, Mapping)
        self._words = given if isinstance(given, Mapping) else {name: METHODS[name] for name in given}

    async def of(self, row: Row) -> list[Made]:
        """What became of a row in all generations."""
        step = self._step
        stage = Stage(text_of(NAME, row, step.input))
        carried = {name: row[name] for name in step.carry}
        made: list[Emit] = []
        aside: list[Made] = []
        for generation, method in enumerate(methods_of(step, row["_id"]), 1):
            try:
                found, answer, reason = await self._next(stage, method, generation)
            except RowFault as fault:
                aside.append(failed(fault))
                if fault.kind == EXHAUSTED:
                    break
                continue
            if reason is not None:
                aside.append(Drop(reason, found.text))
                continue
            stage = found
            answered = {} if answer is None else {"output": answer}
            content = {**carried, step.input: stage.text, "method": method, "generation": generation, **answered}
            made.append(Emit((content,), stage.calls))
        return [*(made if step.keep == "all" else made[-1:]), *aside]

    async def _next(self, stage: Stage, method: str, generation: int) -> tuple[Stage, str | None, str | None]:
        """The next stage, the answer to it where that is wanted, and the reason against it."""
        step, calls = self._step, self._calls
        reply = await calls.ask(step.by, self._question(stage, method), schema=EVOLVED, sample=generation - 1)
        found = Stage(reply.value["instruction"].strip(), (*stage.calls, *reply.keys))
        reason = against_wording(stage.text, found.text)
        if reason is None and step.compare:
            question = SAME.format(before=stage.text, after=found.text)
            verdict = await calls.ask(step.judge or step.by, question, schema=EQUAL)
            found = found._replace(calls=(*found.calls, *verdict.keys))
            reason = "nothing is gained: it asks for the same" if verdict.value["equal"] else None
        if reason is not None or not step.answers:
            return found, None, reason
        answer = await calls.ask(step.by, found.text)
        return found._replace(calls=(*found.calls, *answer.keys)), answer.text, against_answer(answer.text)

    def _question(self, stage: Stage, method: str) -> str:
        if method == "breadth" and not self._own:
            return BROADER.format(text=stage.text)
        return (REWRITTEN if self._own else DEEPER).format(method=self._words[method], text=stage.text)


def against_wording(before: str, after: str) -> str | None:
    """The reason against an evolved instruction that its wording gives."""
    if not words(after):
        return "it says nothing"
    if words(before) == words(after):
        return "it is the same as before"
    for phrase in COPIED:
        if phrase in after.casefold() and phrase not in before.casefold():
            return f"it speaks of the rewriting: `{phrase}`"
    return None


def against_answer(answer: str) -> str | None:
    """The reason against an evolved instruction that its answer gives."""
    found = [word for word in words(answer) if word not in STOP_WORDS]
    if not found:
        return "its answer says nothing"
    if len(answer.split()) < SHORT and SORRY.search(answer.casefold()):
        return "its answer is an apology"
    return None
