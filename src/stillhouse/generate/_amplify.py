"""The growth of new inputs: what is shown, what is accepted, when it is enough."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..calls.nearest import Floats, unit
from ..core.context import Context
from ..core.errors import ModelError
from ..core.outcome import Drop, Emit, Fail, Row
from ..core.plain_sum import plain_sum
from ..text.schema import Schema
from ._asking import reply_schema
from ._coverage import CLUSTER, DIFFICULTY, LEVELS, OTHER, PATTERN, Band, Coverage, Order, Part
from ._drying_up import CALL, lately
from ._policy import check_task_rows
from ._similar import SimilarTexts
from .policy import TaskPolicy
from .prompts import AMPLIFY, FOCUS, KINDS, LABELS, LEVELS_TEXT, listed, policy_text

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
_ITEM: dict[str, Any] = {
    "input": {"type": "string"},
    "kind": {"type": "integer"},
    "difficulty": {"type": "string", "enum": list(LEVELS)},
}


def _objects(*names: str) -> dict[str, Any]:
    fields = {name: _ITEM[name] for name in names}
    item = {"type": "object", "properties": fields, "required": list(names), "additionalProperties": False}
    return {"type": "array", "items": item}


LABELLED_INPUTS = reply_schema("LabelledInputs", inputs=_objects("input", "kind", "difficulty"))
LABELS_OF = reply_schema("Labels", labels=_objects("kind", "difficulty"))
NOVELTY, VECTOR = "_novelty", "_vector"
"""Columns of accepted rows, not part of their content: the number of the call that brought them; how far they are from
what was there before, and their vector, where these count."""
_DIGITS = 4  # of vectors and novelties: they are read again after an interruption
_FUNNEL = {
    "it is empty": "empty",
    "it has ": "too short or too long",
    "its words are": "repeats",
    "it is nearly": "near-duplicates",
    "it means": "alike in meaning",
    "enough ": "more than wanted",
}
"""The kind of a drop, by how its reason begins."""


class Given(NamedTuple):
    """A new input with what is said of it."""

    text: str
    pattern: str | None = None
    difficulty: str | None = None


class Reply(NamedTuple):
    """What one call brought, and the seeds that it was shown. `vectors` are those of the inputs, where they count."""

    inputs: list[Given]
    parents: tuple[str, ...]
    calls: tuple[str, ...]
    cluster: int | None = None
    vectors: Floats | None = None


class Amplification:
    """The grower. What it remembers of accepted rows it can read again from them, so a resumed run goes on the same."""

    def __init__(self, step: Amplify, context: Context) -> None:
        self._step = step
        self._context = context
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
        self._coverage = Coverage(step, self._policy, self._seeds, self._wanted, Band(self._shortest, self._longest))
        self._meanings = _Meanings() if step.alike is not None or step.novelty is not None else None
        self._seeds_embedded = asyncio.Lock()
        self._funnel: Counter[str] = Counter()
        self._num_taken = 0

    def finished(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        """Enough rows, or too few new ones of late."""
        reason = self._reason(num_calls, accepted)
        if reason is not None and num_calls == self._num_taken:
            self._note(num_calls, accepted)
        return reason

    def _reason(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        step = self._step
        if len(accepted) >= self._wanted:
            return f"{self._wanted} new inputs"
        found = lately(step, num_calls, accepted)
        if found is None:
            return None
        if found.enough:
            return self._stale(accepted, found.rows)
        if not accepted:
            raise self._nothing_new(num_calls)
        short = self._coverage.short_of(accepted)
        return (
            f"the last {step.patience} calls brought only {found.rows} new inputs of {step.patience * step.per_call}: "
            f"{len(accepted)} of the {self._wanted} wanted" + (f" ({short})" if short else "")
        )

    def _stale(self, accepted: Sequence[Row], recent: int) -> str | None:
        """Whether what came of late is too near to what was there."""
        step = self._step
        if step.novelty is None:
            return None
        mean = plain_sum(accepted[place][NOVELTY] for place in range(len(accepted) - recent, len(accepted))) / recent
        if mean >= step.novelty:
            return None
        return (
            f"what the last {step.patience} calls brought is near what there was: a novelty of {mean:.2f}, below "
            f"{step.novelty:g}; {len(accepted)} of the {self._wanted} wanted"
        )

    def took(self, call: int, outcomes: Sequence[Emit | Drop | Fail]) -> None:
        """Count what became of what call number `call` brought."""
        for outcome in outcomes:
            if isinstance(outcome, Emit):
                self._funnel["new"] += len(outcome.rows)
            elif isinstance(outcome, Drop):
                kind = next((kind for begin, kind in _FUNNEL.items() if outcome.reason.startswith(begin)), "other")
                self._funnel[kind] += 1
            else:
                self._funnel["failed calls"] += 1
        self._num_taken = call + 1

    def _note(self, num_calls: int, accepted: Sequence[Row]) -> None:
        """Put into the record what is covered, and what became of all that came."""
        came = sum(number for name, number in self._funnel.items() if name != "failed calls")
        funnel = {"asked for": num_calls * self._step.per_call, "came": came, **dict(sorted(self._funnel.items()))}
        self._context.note(coverage=self._coverage.report(accepted), funnel=funnel)
        if self._meanings is not None:
            self._context.note(novelty=_course([row[NOVELTY] for row in accepted]))

    async def ask(self, call: int, accepted: Sequence[Row]) -> Reply:
        """Ask for new inputs under the policy."""
        step, coverage = self._step, self._coverage
        rng = random.Random(f"{step.seed}:{call}")
        order = coverage.order(call, accepted) if coverage.steered else None
        part = coverage.parts[order.part] if order is not None and coverage.by_parts else None
        own = self._seeds if part is None else [self._seeds[place] for place in part.seeds]
        seeds = [own[place] for place in _sample(rng, len(own), step.shown_seeds)]
        made = [accepted[place] for place in _sample(rng, len(accepted), step.shown_new)]
        shown = [row["input"] for row in (*seeds, *made)]
        rng.shuffle(shown)
        prompt = AMPLIFY.format(
            instruction=step.instruction,
            policy=policy_text(self._policy.model_dump() if part is None else part.policy),
            shown=listed(shown),
            count=step.per_call,
            shortest=self._shortest,
            longest=self._longest,
            focus=self._focus(call) if order is None else self._ordered(order),
        )
        inputs, keys = await self._written(call, prompt, order)
        vectors = None if self._meanings is None else await self._embedded(self._meanings, inputs)
        cluster = None if part is None or order is None else order.part + 1
        return Reply(inputs, tuple(row["_id"] for row in seeds), keys, cluster, vectors)

    async def _written(self, call: int, prompt: str, order: Order | None) -> tuple[list[Given], tuple[str, ...]]:
        """What the writer replies, with labels where they count, and the calls behind it."""
        step, coverage = self._step, self._coverage
        if order is not None and coverage.labelled and step.labelled_by is None:
            answer = await self._calls.ask(step.by, prompt, schema=LABELLED_INPUTS, sample=call)
            part = coverage.parts[order.part]
            return [_labelled(item["input"].strip(), item, part) for item in answer.value["inputs"]], answer.keys
        answer = await self._calls.ask(step.by, prompt, schema=NEW_INPUTS, sample=call)
        texts = [text.strip() for text in answer.value["inputs"]]
        if order is None or not coverage.labelled or not texts:
            return [Given(text) for text in texts], answer.keys
        labelled, more = await self._told(texts, coverage.parts[order.part])
        return labelled, (*answer.keys, *more)

    async def _told(self, texts: list[str], part: Part) -> tuple[list[Given], tuple[str, ...]]:
        """New inputs with what `labelled_by` says of each; what it says nothing of has no label."""
        prompt = LABELS.format(
            instruction=self._step.instruction,
            policy=policy_text(part.policy),
            kinds=_kinds(part),
            levels=LEVELS_TEXT,
            shown=listed(texts),
            count=len(texts),
        )
        answer = await self._calls.ask(self._step.labelled_by, prompt, schema=LABELS_OF)
        labels = [*answer.value["labels"], *[{}] * len(texts)][: len(texts)]
        return [_labelled(text, label, part) for text, label in zip(texts, labels, strict=True)], answer.keys

    async def _embedded(self, meanings: _Meanings, inputs: Sequence[Given]) -> Floats | None:
        async with self._seeds_embedded:
            if not meanings.size:
                meanings.add(await self._vectors([seed["input"] for seed in self._seeds]))
        return await self._vectors([given.text for given in inputs]) if inputs else None

    async def _vectors(self, texts: Sequence[str]) -> Floats:
        found: Floats = await self._calls.embed(self._step.embedder, texts)
        return np.round(unit(found), _DIGITS)

    def accept(self, call: int, answer: Reply, accepted: Sequence[Row]) -> Sequence[Emit | Drop | Fail]:
        """One `Emit` with the inputs that are new, a `Drop` for each other one."""
        self._catch_up(accepted)
        new: list[dict[str, Any]] = []
        drops: list[Drop] = []
        levels: Counter[str | None] = Counter()
        room = self._wanted - len(accepted)
        for place, given in enumerate(answer.inputs):
            vector = None if answer.vectors is None else answer.vectors[place]
            full = len(new) >= room
            reason = "enough inputs were accepted before it" if full else self._against(given.text, vector)
            if reason is None and self._coverage.full(given.difficulty, levels, accepted):
                reason = f"enough {given.difficulty} inputs were accepted before it"
            if reason is not None:
                drops.append(Drop(reason, given.text))
                continue
            new.append(self._row(call, given, answer.cluster, vector))
            levels[given.difficulty] += 1
            self._known.add(given.text)
        self._refused = [*self._refused, *(f"{drop.reason}: {drop.detail!r:.100}" for drop in drops)][:3]
        if not answer.inputs:
            return [Fail("empty", "the reply holds no inputs")]
        return [*([Emit(new, calls=answer.calls, parents=answer.parents)] if new else []), *drops]

    def _row(self, call: int, given: Given, cluster: int | None, vector: Floats | None) -> dict[str, Any]:
        row: dict[str, Any] = {"input": given.text}
        if self._coverage.labelled:
            row |= {PATTERN: given.pattern, DIFFICULTY: given.difficulty}
        if cluster is not None:
            row[CLUSTER] = cluster
        row[CALL] = call
        if vector is not None and self._meanings is not None:
            row[NOVELTY] = round(1.0 - self._meanings.nearest(vector)[1], _DIGITS)
            row[VECTOR] = [round(float(number), _DIGITS) for number in vector]
            self._meanings.add(vector[None])
        return row

    def _focus(self, call: int) -> str:
        """Every other call leans towards one of the policy's patterns, in turn."""
        patterns = self._policy.reasoning_patterns
        if call % 2 == 0 or not patterns:
            return ""
        return FOCUS.format(pattern=patterns[call // 2 % len(patterns)].rstrip(". "))

    def _ordered(self, order: Order) -> str:
        """What a call asks for, in words."""
        coverage, part = self._coverage, self._coverage.parts[order.part]
        lines: list[str] = []
        if order.patterns:
            wanted = [f"{number} of kind {place}" for place, number in enumerate(order.patterns, 1) if number]
            lines.append(f"Of these, write {', '.join(wanted)}.")
        if order.levels:
            levels = zip(coverage.levels, order.levels, strict=True)
            lines.append(f"Write {', '.join(f'{number} {cell.name}' for cell, number in levels if number)} ones.")
        if order.bands:
            bands = zip(coverage.bands, order.bands, strict=True)
            lines.append(f"Write {', '.join(f'{number} of {band.name}' for band, number in bands if number)}.")
        if not coverage.labelled:
            return "".join(f"\n{line}" for line in lines)
        if self._step.labelled_by is None:
            lines.append("Say of each its kind (0: none of those above) and its difficulty, as they have turned out.")
        return f"\n{_kinds(part)}\n{LEVELS_TEXT}\n\n" + "\n".join(lines)

    def _catch_up(self, accepted: Sequence[Row]) -> None:
        """Take in the rows that an earlier attempt accepted."""
        for place in range(len(self._known) - len(self._seeds), len(accepted)):
            self._known.add(accepted[place]["input"])
            if self._meanings is not None:
                self._meanings.add(np.array([accepted[place][VECTOR]], np.float32))

    def _against(self, text: str, vector: Floats | None) -> str | None:
        """The reason against an input, or None."""
        if not text:
            return "it is empty"
        if not self._shortest <= len(text) <= self._longest:
            return f"it has {len(text)} characters, outside of {self._shortest} to {self._longest}"
        equal = self._known.equal(text)
        if equal is not None:
            return f"its words are those of {self._name(equal)}"
        near = self._known.nearest(text)
        if near is not None:
            return f"it is nearly {self._name(near.number)} (similarity {near.score:.2f})"
        if self._step.alike is not None and vector is not None and self._meanings is not None:
            number, cosine = self._meanings.nearest(vector)
            if cosine >= self._step.alike:
                return f"it means what {self._name(number)} means (cosine {cosine:.2f})"
        return None

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


class _Meanings:
    """The vectors of the seeds and of what was accepted, in order."""

    def __init__(self) -> None:
        self._vectors: Floats = np.empty((0, 0), np.float32)
        self.size = 0

    def add(self, vectors: Floats) -> None:
        """The next vectors."""
        needed = self.size + len(vectors)
        if needed > len(self._vectors):
            larger = np.zeros((max(64, 2 * needed), vectors.shape[1]), np.float32)
            if self.size:
                larger[: self.size] = self._vectors[: self.size]
            self._vectors = larger
        self._vectors[self.size : needed] = vectors
        self.size = needed

    def nearest(self, vector: Floats) -> tuple[int, float]:
        """The number of the nearest, of equal ones the first, and the cosine."""
        # Rounded, so that how the product is computed does not show.
        cosines = np.round(self._vectors[: self.size] @ vector, 5)
        place = int(cosines.argmax())
        return place, float(cosines[place])


def _labelled(text: str, label: dict[str, Any], part: Part) -> Given:
    kind = label.get("kind", 0)
    pattern = part.patterns[kind - 1] if 1 <= kind <= len(part.patterns) else OTHER
    return Given(text, pattern, label.get("difficulty"))


def _kinds(part: Part) -> str:
    kinds = "\n".join(f"{number}. {pattern}" for number, pattern in enumerate(part.patterns, 1))
    return KINDS.format(kinds=kinds) if kinds else ""


def _course(novelties: Sequence[float]) -> list[float]:
    """The means of ten stretches of equal length, in order; of fewer where there are fewer rows."""
    pieces = min(10, len(novelties))
    ends = [len(novelties) * place // pieces for place in range(pieces + 1)] if pieces else []
    return [round(plain_sum(novelties[begin:end]) / (end - begin), _DIGITS) for begin, end in pairwise(ends)]


def _sample(rng: random.Random, size: int, number: int) -> list[int]:
    return sorted(rng.sample(range(size), min(size, number)))
