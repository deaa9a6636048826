"""The growth of instructions: what is shown, what is new, when it is enough."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.context import Context
from ..core.errors import ModelError, RecipeError, RowFault
from ..core.outcome import Drop, Emit, Fail, Row
from ..rows.transform import lacks, missing_column
from ..text.ngrams import words
from ._asking import reply_schema, text_of
from ._drying_up import CALL, lately
from ._rouge_index import RougeIndex
from .prompts import listed

if TYPE_CHECKING:
    from .self_instruct import SelfInstruct

NAME = "SelfInstruct"
WORDS = """\
Below are instructions that people give to an assistant.

{shown}

Write {count} new instructions{about}. They must differ from those above and from each other in what they ask for, in
their form (questions, orders, tasks with conditions) and in how the answer looks. Each must stand by itself and be
something that an assistant who reads and writes text alone can do.{classify}"""
CLASSIFY = " Say of each whether it is a classification: whether its answer is one of a few given labels."
TEXT = {"type": "string"}
ITEM = {
    "type": "object",
    "properties": {"instruction": TEXT, "classification": {"type": "boolean"}},
    "required": ["instruction", "classification"],
    "additionalProperties": False,
}
PLAIN = reply_schema("NewInstructions", instructions={"type": "array", "items": TEXT})
CLASSIFIED = reply_schema("NewInstructions", instructions={"type": "array", "items": ITEM})


class Reply(NamedTuple):
    """What one call brought: instructions, each with its kind where that was asked for."""

    instructions: list[tuple[str, bool | None]]
    parents: tuple[str, ...]
    calls: tuple[str, ...]


class Instructions:
    """The grower. What it remembers of accepted rows it can read again from them, so a resumed run goes on the same."""

    def __init__(self, step: SelfInstruct, context: Context) -> None:
        self._step = step
        self._calls = context.calls
        rows = context.get(step.rows)
        if lacks(rows, step.input):
            raise missing_column(NAME, step.input, rows.columns)
        self._seeds = list(rows)
        if not self._seeds:
            raise RecipeError(f"{NAME}: there are no rows to begin with", "Give some instructions.")
        self._known = RougeIndex(step.threshold)
        for seed in self._seeds:
            try:
                self._known.add(text_of(NAME, seed, step.input))
            except RowFault as fault:
                raise RecipeError(f"{NAME}: {fault.message}", "Each row needs an instruction.") from None
        self._schema = CLASSIFIED if step.classify else PLAIN
        unseen = "|".join(re.escape(word) for word in step.without)
        self._unseen = re.compile(rf"\b(?:{unseen})\b", re.IGNORECASE) if unseen else None
        self._refused: list[str] = []

    def finished(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        """Enough instructions, or too few new ones of late."""
        step = self._step
        if len(accepted) >= step.num:
            return f"{step.num} new instructions"
        found = lately(step, num_calls, accepted)
        if found is None or found.enough:
            return None
        if not accepted:
            shown = "\n".join(f"    {reason}" for reason in self._refused)
            raise ModelError(
                f"`{step.by.name}` gave no new instruction in {num_calls} calls:\n{shown}",
                "Raise the temperature or `threshold`, or say in `about` what they shall be about.",
                kind="rubbish",
            )
        return (
            f"the last {step.patience} calls brought only {found.rows} new instructions of "
            f"{step.patience * step.per_call}: {len(accepted)} of the {step.num} wanted"
        )

    async def ask(self, call: int, accepted: Sequence[Row]) -> Reply:
        """Ask for new instructions after some that exist."""
        step = self._step
        rng = random.Random(f"{step.seed}:{call}")
        seeds = [self._seeds[place] for place in _sample(rng, len(self._seeds), step.shown_seeds)]
        made = [accepted[place] for place in _sample(rng, len(accepted), step.shown_new)]
        shown = [row[step.input] for row in (*seeds, *made)]
        rng.shuffle(shown)
        question = WORDS.format(
            shown=listed(shown),
            count=step.per_call,
            about=f" about this: {step.about}" if step.about else "",
            classify=CLASSIFY if step.classify else "",
        )
        answer = await self._calls.ask(step.by, question, schema=self._schema, sample=call)
        found = [
            (one["instruction"], one["classification"]) if step.classify else (one, None)
            for one in answer.value["instructions"]
        ]
        return Reply(found, tuple(row["_id"] for row in seeds), answer.keys)

    def accept(self, call: int, answer: Reply, accepted: Sequence[Row]) -> Sequence[Emit | Drop | Fail]:
        """One `Emit` with the instructions that are new, a `Drop` for each other one."""
        self._catch_up(accepted)
        step = self._step
        new: list[dict[str, Any]] = []
        drops: list[Drop] = []
        for text, classification in ((given.strip(), kind) for given, kind in answer.instructions):
            room = step.num - len(accepted) - len(new)
            reason = self._against(text) if room else "enough instructions were accepted before it"
            if reason is not None:
                drops.append(Drop(reason, text))
                continue
            kind = {"classification": classification} if step.classify else {}
            new.append({step.input: text, **kind, CALL: call})
            self._known.add(text)
        self._refused = [*self._refused, *(f"{drop.reason}: {drop.detail!r:.100}" for drop in drops)][:3]
        if not answer.instructions:
            return [Fail("empty", "the reply holds no instructions")]
        return [*([Emit(new, calls=answer.calls, parents=answer.parents)] if new else []), *drops]

    def _catch_up(self, accepted: Sequence[Row]) -> None:
        """Take in the rows that an earlier attempt accepted."""
        for place in range(len(self._known) - len(self._seeds), len(accepted)):
            self._known.add(accepted[place][self._step.input])

    def _against(self, text: str) -> str | None:
        """The reason against an instruction, or None."""
        step, size = self._step, len(words(text))
        if not step.shortest <= size <= step.longest:
            return f"it has {size} words, outside of {step.shortest} to {step.longest}"
        if not text[0].isalnum() and text[0] not in "\"'“‘«¿¡([{":
            return "it begins with punctuation"
        unseen = self._unseen.search(text) if self._unseen else None
        if unseen is not None:
            return f"it speaks of what is not text: `{unseen[0].lower()}`"
        near = self._known.nearest(text)
        return None if near is None else f"it is nearly {self._name(near.number)} (ROUGE-L {near.score:.2f})"

    def _name(self, number: int) -> str:
        if number < len(self._seeds):
            return f"seed {self._seeds[number]['_id']}"
        return f"new instruction {number - len(self._seeds) + 1}"


def _sample(rng: random.Random, size: int, number: int) -> list[int]:
    return sorted(rng.sample(range(size), min(size, number)))
