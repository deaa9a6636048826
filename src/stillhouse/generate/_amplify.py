"""The growth of new inputs: what is shown, what is accepted, when it is enough."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.context import Context
from ..core.errors import ModelError
from ..core.outcome import Drop, Emit, Fail, Row
from ..text.schema import Schema
from ._policy import check_task_rows
from ._similar import SimilarTexts
from .policy import TaskPolicy
from .prompts import AMPLIFY, FOCUS, listed, policy_text

if TYPE_CHECKING:
    from .amplify import Amplify

NEW_INPUTS = Schema(
    {
        "title": "NewInputs",
        "type": "object",
        "properties": {"inputs": {"type": "array", "items": {"type": "string"}}},
        "required": ["inputs"],
        "additionalProperties": False,
    }
)
CALL = "_call"
"""Column of accepted rows, not part of their content: the number of the call that brought them."""


class Reply(NamedTuple):
    """What one call brought, and the seeds that it was shown."""

    inputs: list[str]
    parents: tuple[str, ...]
    calls: tuple[str, ...]


class Amplification:
    """The grower. What it remembers of accepted rows it can read again from them, so a resumed run goes on the same."""

    def __init__(self, step: Amplify, context: Context) -> None:
        self._step = step
        self._calls = context.calls
        self._seeds = list(context.get(step.rows))
        check_task_rows("Amplify", self._seeds)
        self._policy = TaskPolicy(**context.get(step.policy).value)
        self._wanted = max(1, round(len(self._seeds) * step.factor))
        self._shortest = max(1, int(self._policy.input_length_range.shortest / step.slack))
        self._longest = int(self._policy.input_length_range.longest * step.slack)
        self._known = SimilarTexts(step.threshold)
        for seed in self._seeds:
            self._known.add(seed["input"])
        self._refused: list[str] = []

    def finished(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        """Enough rows, or too few new ones of late."""
        step = self._step
        if len(accepted) >= self._wanted:
            return f"{self._wanted} new inputs"
        # A teacher whose replies are all rubbish is the runner's to stop, with examples: it looks at the first calls.
        patience = step.patience if accepted else max(2 * step.patience, 40)
        if num_calls < patience:
            return None
        recent = 0
        for row in reversed(accepted):
            if row[CALL] < num_calls - step.patience:
                break
            recent += 1
        if recent >= max(1.0, step.least * step.patience * step.per_call):
            return None
        if not accepted:
            raise self._nothing_new(num_calls)
        return (
            f"the last {step.patience} calls brought only {recent} new inputs of {step.patience * step.per_call}: "
            f"{len(accepted)} of the {self._wanted} wanted"
        )

    async def ask(self, call: int, accepted: Sequence[Row]) -> Reply:
        """Ask for new inputs under the policy."""
        step = self._step
        rng = random.Random(f"{step.seed}:{call}")
        seeds = [self._seeds[place] for place in _sample(rng, len(self._seeds), step.shown_seeds)]
        made = [accepted[place] for place in _sample(rng, len(accepted), step.shown_new)]
        shown = [row["input"] for row in (*seeds, *made)]
        rng.shuffle(shown)
        prompt = AMPLIFY.format(
            instruction=step.instruction,
            policy=policy_text(self._policy.model_dump()),
            shown=listed(shown),
            count=step.per_call,
            shortest=self._shortest,
            longest=self._longest,
            focus=self._focus(call),
        )
        answer = await self._calls.ask(step.by, prompt, schema=NEW_INPUTS, sample=call)
        return Reply(list(answer.value["inputs"]), tuple(row["_id"] for row in seeds), answer.keys)

    def accept(self, call: int, answer: Reply, accepted: Sequence[Row]) -> Sequence[Emit | Drop | Fail]:
        """One `Emit` with the inputs that are new, a `Drop` for each other one."""
        self._catch_up(accepted)
        new: list[dict[str, Any]] = []
        drops: list[Drop] = []
        room = self._wanted - len(accepted)
        for text in (given.strip() for given in answer.inputs):
            reason = self._against(text) if len(new) < room else "enough inputs were accepted before it"
            if reason is None:
                new.append({"input": text, CALL: call})
                self._known.add(text)
            else:
                drops.append(Drop(reason, text))
        self._refused = [*self._refused, *(f"{drop.reason}: {drop.detail!r:.100}" for drop in drops)][:3]
        if not answer.inputs:
            return [Fail("empty", "the reply holds no inputs")]
        return [*([Emit(new, calls=answer.calls, parents=answer.parents)] if new else []), *drops]

    def _focus(self, call: int) -> str:
        """Every other call leans towards one of the policy's patterns, in turn."""
        patterns = self._policy.reasoning_patterns
        if call % 2 == 0 or not patterns:
            return ""
        return FOCUS.format(pattern=patterns[call // 2 % len(patterns)].rstrip(". "))

    def _catch_up(self, accepted: Sequence[Row]) -> None:
        """Take in the rows that an earlier attempt accepted."""
        for place in range(len(self._known) - len(self._seeds), len(accepted)):
            self._known.add(accepted[place]["input"])

    def _against(self, text: str) -> str | None:
        """The reason against an input, or None."""
        if not text:
            return "it is empty"
        if not self._shortest <= len(text) <= self._longest:
            return f"it has {len(text)} characters, outside of {self._shortest} to {self._longest}"
        equal = self._known.equal(text)
        if equal is not None:
            return f"its words are those of {self._name(equal)}"
        near = self._known.nearest(text)
        return None if near is None else f"it is nearly {self._name(near.number)} (similarity {near.score:.2f})"

    def _name(self, number: int) -> str:
        if number < len(self._seeds):
            return f"seed {self._seeds[number]['_id']}"
        return f"new input {number - len(self._seeds) + 1}"

    def _nothing_new(self, num_calls: int) -> ModelError:
        shown = "\n".join(f"    {reason}" for reason in self._refused)
        return ModelError(
            f"`{self._step.by.name}` gave no new input in {num_calls} calls:\n{shown}",
            "Look at the instruction and the policy, raise the temperature, or allow more by `slack` and `threshold`.",
            kind="rubbish",
        )


def _sample(rng: random.Random, size: int, number: int) -> list[int]:
    return sorted(rng.sample(range(size), min(size, number)))
