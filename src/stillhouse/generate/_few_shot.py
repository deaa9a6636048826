"""Choosing examples and fitting them into a question."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Made, Row
from ..rows.transform import lacks, missing_column
from ._asking import AsyncMapper, asked_at_once, refuse_taken, shown_of
from ._prompt import SAMPLE
from ._room import Room, room_of
from .output import Reading
from .template import Template, shown

if TYPE_CHECKING:
    from .few_shot import FewShot

NAME = "FewShot"


class Shots:
    """Lays out questions: the instruction, the examples that fit, the input.

    `step` has the fields of `FewShot` that say how: labels, separator, `least` and `most`; `room` says what fits.
    """

    def __init__(self, step: Any, room: Room | None, noun: str = "example") -> None:
        self._step = step
        self._noun = noun
        self._room = room
        self._fill = Template(step.instruction) if step.instruction else None

    def question(self, row: Row, text: str, examples: Iterable[str]) -> str:
        """The question of a row, with as many of the examples as fit, in their order.

        Raises `RowFault` (`too_long`) where fewer than `least` do.
        """
        return self.fitted(row, text, examples)[0]

    def fitted(self, row: Row, text: str, examples: Iterable[str]) -> tuple[str, list[int]]:
        """The same, and the places of the examples that it shows."""
        step = self._step
        head = [self._fill(row)] if self._fill else []
        tail = f"{_labelled(step.input_label, text)}\n{step.output_label}".rstrip()
        if self._room is None:
            taken = [(place, example) for place, example in zip(range(step.most), examples, strict=False)]
        else:
            taken = self._fitting(row, head, tail, examples, self._room)
        return self._joined(head, taken, tail), [place for place, _ in taken]

    def _fitting(
        self, row: Row, head: list[str], tail: str, examples: Iterable[str], room: Room
    ) -> list[tuple[int, str]]:
        step, count, most = self._step, room.count, room.tokens - room.taken
        left = most - count(step.separator.join([*head, tail]))
        if room.firm and left < 0:
            self._too_long(row, room, f"without any {self._noun} it is longer than that")
        kept = 0 if room.firm else step.least
        taken: list[tuple[int, str]] = []
        passed: list[tuple[int, str]] = []
        for place, example in enumerate(examples):
            if len(taken) == step.most or (left < 0 and len(passed) >= kept):
                break
            size = count(example + step.separator)
            (taken if size <= left else passed).append((place, example))
            left -= size if size <= left else 0
        # Counted one by one they may come to a little less than together: tokens run over the ends of texts.
        while taken and count(self._joined(head, taken, tail)) > most:
            passed.append(taken.pop())
        if len(taken) < step.least and passed and room.firm:
            self._too_long(row, room, f"only {len(taken)} of at least {step.least} {self._noun}s fit")
        return sorted([*taken, *sorted(passed)[: max(0, kept - len(taken))]])

    def _joined(self, head: list[str], taken: Sequence[tuple[int, str]], tail: str) -> str:
        return str(self._step.separator.join([*head, *(example for _, example in taken), tail]))

    def example(self, row: Row, input: str, answer: str) -> str:
        """One example as it is shown."""
        step = self._step
        return f"{_labelled(step.input_label, shown(row[input]))}\n{_labelled(step.output_label, shown(row[answer]))}"

    def turns(self, row: Row, text: str, examples: Sequence[tuple[Any, Any]]) -> list[dict[str, str]]:
        """The question as a conversation: each example is a turn of the user and the assistant's answer to it."""
        said = [str(shown(part)) for example in examples for part in example]
        said.append(text)
        if self._fill:
            said[0] = str(self._step.separator.join([self._fill(row), said[0]]))
        roles = ("user", "assistant")
        return [{"role": roles[place % 2], "content": words} for place, words in enumerate(said)]

    def _too_long(self, row: Row, room: Room, why: str) -> NoReturn:
        raise RowFault("too_long", f"row {row.get('_id', '?')}: the question may have {room.tokens} tokens; {why}")


def shower(step: FewShot, context: Context) -> AsyncMapper:
    source, reading = context.get(step.rows), Reading(step.column, step.response, unpack=step.unpack)
    if lacks(source, step.input):
        raise missing_column(NAME, step.input, source.columns)
    added = (*reading.columns, *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(NAME, source, added, "Give another name in `column`, or take it away: `Select(without=…)`.")
    shots = Shots(step, room_of(step, context))
    choice = _Choice(step, context, shots)

    def questions(row: Row) -> Sequence[Question]:
        own, tried = shown_of(NAME, row, step.input), list[int]()

        def texts() -> Iterator[str]:
            for place in choice.places_for(row):
                tried.append(place)
                yield choice.texts[place]

        text, places = shots.fitted(row, own, texts())
        if len(places) < step.least:
            where = f"row {row.get('_id', '?')}"
            raise RowFault(
                "empty", f"{where}: there are {len(places)} examples besides itself, fewer than {step.least}"
            )
        asked: Any = text
        if step.turns:
            asked = shots.turns(row, own, [choice.pairs[tried[place]] for place in places])
        return [Question(asked, step.response, sample) for sample in range(step.samples)]

    def read(row: Row, place: int, answer: Answer) -> Made:
        made: dict[str, Any] = {**row, **reading.columns_of(answer)}
        if step.samples > 1:
            made[SAMPLE] = place
        return Emit((made,), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)


class _Choice:
    """In which order the examples are tried for a row."""

    def __init__(self, step: FewShot, context: Context, shots: Shots) -> None:
        rows = context.get(step.examples)
        for name in (step.input, step.answer):
            if lacks(rows, name):
                raise missing_column(f"{NAME}: examples", name, rows.columns)
        found = list(rows)
        if len(found) < step.least:
            raise RecipeError(f"{NAME}: there are {len(found)} examples, fewer than `least`, which is {step.least}")
        self._step = step
        self.texts = [shots.example(row, step.input, step.answer) for row in found]
        self.pairs = [(row[step.input], row[step.answer]) for row in found]
        self._ids = [row["_id"] for row in found]
        self._places = places_of(context.get(step.rows)) if step.choose == "round_robin" else None

    def places_for(self, row: Row) -> Iterator[int]:
        """Places in the table of examples, but that of the row itself."""
        own = (row[self._step.input], row.get(self._step.answer))
        for place in self._order(row):
            if self._ids[place] != row["_id"] and self.pairs[place] != own:
                yield place

    def _order(self, row: Row) -> Iterator[int]:
        size, step = len(self.texts), self._step
        if not size:
            return iter(())
        if step.choose == "random":
            rng = random.Random(f"{step.seed}:{row['_id']}")
            return iter(rng.sample(range(size), size))
        start = 0 if self._places is None else self._places(row["_id"]) * step.most % size
        return iter([*range(start, size), *range(start)])


def places_of(rows: Rows) -> Callable[[str], int]:
    """The number of a row in its table by its id: 32 bytes a row are held, so a mapper can tell it in any chunk."""
    ids = np.concatenate([np.empty(0, "S24"), *(np.asarray(batch["_id"], "S24") for batch in rows.arrow_batches())])
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]

    def place(row_id: str) -> int:
        return int(order[np.searchsorted(ordered, row_id.encode())])

    return place


def _labelled(label: str, text: Any) -> str:
    return f"{label} {text}" if label else str(text)
