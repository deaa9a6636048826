"""Asking with what was retrieved for each row: examples, or passages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Fail, Made, Outcome, Row
from ._asking import failed, refuse_taken, text_of
from ._few_shot import Shots
from ._prompt import SAMPLE
from ._retrieve import Hit, Hits, Searcher
from ._room import room_of
from .output import Reading

if TYPE_CHECKING:
    from .few_shot_with_retrieval import FewShotWithRetrieval
    from .rag import RAG

Mapper = Callable[[Sequence[Row]], Awaitable[list[Outcome]]]


class Asked(NamedTuple):
    """The question of a row and what it shows."""

    text: str
    shown: list[Hit]
    calls: tuple[str, ...]


def shower(step: FewShotWithRetrieval, context: Context) -> Mapper:
    """The mapper of `FewShotWithRetrieval`."""
    name = "FewShotWithRetrieval"
    shots = Shots(step, room_of(step, context))
    searcher = _searcher(name, step, context, step.input, (step.input, step.answer))

    def ask(row: Row, found: Hits) -> Asked:
        own = (row[step.input], row.get(step.answer))
        hits = [hit for hit in found.hits if (hit.row[step.input], hit.row[step.answer]) != own]
        # What fits is chosen by nearness; only then what is shown is turned round.
        texts = [shots.example(hit.row, step.input, step.answer) for hit in hits]
        question, places = shots.fitted(row, text_of(name, row, step.input), texts)
        if len(places) < step.least:
            raise RowFault("empty", f"{len(places)} examples were found, fewer than {step.least}")
        shown = [hits[place] for place in places]
        if step.nearest_last:
            shown.reverse()
            texts = [shots.example(hit.row, step.input, step.answer) for hit in shown]
            question, places = shots.fitted(row, text_of(name, row, step.input), texts)
            shown = [shown[place] for place in places]
        return Asked(question, shown, found.calls)

    return _asking(name, step, context, searcher, ask, ())


def reader(step: RAG, context: Context) -> Mapper:
    """The mapper of `RAG`."""
    name = "RAG"
    shots = Shots(_Labels(step), room_of(step, context), "passage")
    searcher = _searcher(name, step, context, step.question, (step.text,))

    def ask(row: Row, found: Hits) -> Asked:
        hits = [hit for hit in found.hits if isinstance(hit.row[step.text], str)]
        if len(hits) < step.least:
            raise RowFault("empty", f"{len(hits)} passages are near enough, fewer than {step.least}")
        # A passage's number is that among those shown, known when it is clear which fit; the widest stands in for it.
        sized = [f"[{step.most}] {hit.row[step.text]}" for hit in hits]
        text = text_of(name, row, step.question)
        _, places = shots.fitted(row, text, sized)
        shown = [hits[place] for place in places]
        numbered = [f"[{number}] {hit.row[step.text]}" for number, hit in enumerate(shown, 1)]
        return Asked(shots.fitted(row, text, numbered)[0], shown, found.calls)

    return _asking(name, step, context, searcher, ask, (step.sources,))


class _Labels:
    """What `Shots` reads of a step, by the names that it has in `RAG`."""

    def __init__(self, step: RAG) -> None:
        self.instruction, self.separator = step.instruction, step.separator
        self.input_label, self.output_label = step.question_label, step.answer_label
        self.least, self.most = step.least, step.most


def _searcher(name: str, step: Any, context: Context, column: str, wanted: Sequence[str]) -> Searcher:
    searcher = Searcher(name, context.get(step.index), context.get(step.rows), column, None)
    for needed in wanted:
        if needed not in searcher.columns:
            there = ", ".join(f"`{kept}`" for kept in searcher.columns) or "none"
            raise RecipeError(f"{name}: the index keeps no column `{needed}`", f"It keeps {there}.")
    return searcher


def _asking(
    name: str,
    step: RAG | FewShotWithRetrieval,
    context: Context,
    searcher: Searcher,
    ask: Callable[[Row, Hits], Asked],
    more: Sequence[str],
) -> Mapper:
    calls, reading = context.calls, Reading(step.column, step.response, unpack=step.unpack)
    added = (*reading.columns, *more, *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(name, context.get(step.rows), added, "Give another name, or take it away: `Select(without=…)`.")
    wanted = step.candidates or 2 * step.most
    least = getattr(step, "near", None)
    apart = name == "FewShotWithRetrieval"

    def made(row: Row, place: int, asked: Asked, answer: Any) -> Made:
        if isinstance(answer, RowFault):
            return failed(answer)
        try:
            content = {**row, **reading.columns_of(answer)}
        except RowFault as fault:
            return failed(fault)
        for column in more:
            content[column] = [hit.id for hit in asked.shown]
        if step.samples > 1:
            content[SAMPLE] = place
        parents = tuple(dict.fromkeys((row["_id"], *(hit.id for hit in asked.shown))))
        return Emit((content,), (*asked.calls, *answer.keys), parents)

    async def mapper(rows: Sequence[Row]) -> list[Outcome]:
        queries = await searcher.queries(rows, calls)
        found = await asyncio.to_thread(searcher.search, rows, queries, max(1, wanted), apart=apart, least=least)
        asked: list[Asked | Fail] = []
        for row, hits in zip(rows, found, strict=True):
            try:
                if hits.fault is not None:
                    raise hits.fault
                asked.append(ask(row, hits))
            except RowFault as fault:
                asked.append(failed(fault))
        questions = [
            Question(one.text, step.response, sample)
            for one in asked
            if isinstance(one, Asked)
            for sample in range(step.samples)
        ]
        answers = iter(await calls.ask_many(step.by, questions) if questions else ())
        outcomes: list[Outcome] = []
        for row, one in zip(rows, asked, strict=True):
            if isinstance(one, Fail):
                outcomes.append(one)
                continue
            each = [made(row, place, one, next(answers)) for place in range(step.samples)]
            outcomes.append(each[0] if step.samples == 1 else each)
        return outcomes

    return mapper
