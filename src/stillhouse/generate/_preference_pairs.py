"""Answers, what is said of them, and the pairs that follow."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import EXHAUSTED, RowFault
from ..core.outcome import Drop, Emit, Made, Outcome, Row
from ..core.part import Part
from ..text.normalise import normalise
from ._asking import most_passing, refuse_taken, talked_through
from ._judging import TIE, A, B, Pair, opinions, settled
from ._rubric import Scorer
from ._voting import Checking
from .judges import PairJudge, names_of
from .rubric import Rubric
from .template import Template

if TYPE_CHECKING:
    from .preference_pairs import PreferencePairs

NAME = "PreferencePairs"
REPLY = "reply"
COLUMNS = ("chosen", "rejected", "chosen_score", "rejected_score", "chosen_by", "rejected_by")


class Candidate(NamedTuple):
    """One answer: its text, who gave it, and the calls behind it."""

    text: str
    by: str
    keys: tuple[str, ...]


class Judged(NamedTuple):
    """What a judge says of some answers: their scores, which of two is better, and the calls that say so.

    `better` maps two places to the better one's; None where all that counts is the scores. `why` holds the judge's
    calls for each place.
    """

    scores: list[float]
    better: Mapping[tuple[int, int], int] | None
    why: list[tuple[str, ...]]


Judge = Callable[[Row, Sequence[Candidate]], Awaitable[Judged]]


def pairing(step: PreferencePairs, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    source, calls, fill = context.get(step.rows), context.calls, Template(step.template)
    refuse_taken(NAME, source, COLUMNS, "Take it away first: `Select(rows=…, without=…)`.")
    judge = _judge(step.judge, calls)
    names = names_of(step.by)

    async def pair(row: Row) -> Outcome:
        asked = [Question(fill(row), None, sample) for sample in range(step.samples)]
        heard = await asyncio.gather(*(calls.ask_many(by, asked) for by in step.by))
        replies = [(name, answer) for name, answers in zip(names, heard, strict=True) for answer in answers]
        found = _candidates(replies)
        if isinstance(found, Drop):
            return found
        return _pairs(step, row, found, await judge(row, found))

    return talked_through(pair)


def _candidates(replies: Sequence[tuple[str, Answer | RowFault]]) -> list[Candidate] | Drop:
    """The answers that differ. Raises the `RowFault` of a row that got too few, or may get another one."""
    faults = [answer for _, answer in replies if isinstance(answer, RowFault)]
    good = [(name, answer) for name, answer in replies if not isinstance(answer, RowFault) and answer.text.strip()]
    if faults and (not good or any(fault.kind == EXHAUSTED for fault in faults)):
        raise most_passing(faults)
    different: dict[str, Candidate] = {}
    for name, answer in good:
        different.setdefault(normalise("whitespace", answer.text), Candidate(answer.text, name, answer.keys))
    found = list(different.values())
    if len(found) > 1:
        return found
    evidence = orjson.dumps([*(one.text for one in found), *map(str, faults)]).decode()
    return Drop("all answers are the same" if len(good) > 1 else "there are no two answers", evidence)


def _pairs(step: PreferencePairs, row: Row, candidates: Sequence[Candidate], judged: Judged) -> Outcome:
    places = sorted(range(len(candidates)), key=lambda place: (-judged.scores[place], place))
    taken = [(places[0], places[-1])] if step.pairs == "extremes" else list(itertools.combinations(places, 2))
    made: list[Made] = [
        _emitted(row, candidates, judged, best, worst) for best, worst in taken if _differ(step, judged, best, worst)
    ]
    if made:
        return made[0] if len(made) == 1 else made
    evidence = [{"answer": one.text, "score": score} for one, score in zip(candidates, judged.scores, strict=True)]
    return Drop("no answer is better than another", orjson.dumps(evidence).decode())


def _differ(step: PreferencePairs, judged: Judged, best: int, worst: int) -> bool:
    if judged.scores[best] - judged.scores[worst] <= step.margin:
        return False
    if judged.better is None:
        return True
    # Who won more comparisons need not have won this one.
    winner = judged.better.get((min(best, worst), max(best, worst)))
    return winner == best or (winner is None and step.pairs == "extremes")


def _emitted(row: Row, candidates: Sequence[Candidate], judged: Judged, best: int, worst: int) -> Emit:
    chosen, rejected = candidates[best], candidates[worst]
    values = (
        chosen.text,
        rejected.text,
        judged.scores[best],
        judged.scores[worst],
        chosen.by,
        rejected.by,
    )
    keys = (*chosen.keys, *rejected.keys, *judged.why[best], *judged.why[worst])
    return Emit(({**row, **dict(zip(COLUMNS, values, strict=True))},), tuple(dict.fromkeys(keys)))


def _judge(judge: Part, calls: Any) -> Judge:
    if isinstance(judge, PairJudge):
        return _by_comparison(judge, calls)
    if isinstance(judge, Rubric):
        return _by_rubric(judge, calls)
    return _by_verifier(judge)


def _by_comparison(judge: PairJudge, calls: Any) -> Judge:
    fill = Template(judge.instruction)

    async def compare(row: Row, candidates: Sequence[Candidate]) -> Judged:
        instruction = fill(row)
        places = list(itertools.combinations(range(len(candidates)), 2))
        pairs = [Pair(instruction, candidates[one].text, candidates[other].text) for one, other in places]
        heard = await opinions(calls, judge, pairs)
        wins = [0.0] * len(candidates)
        better: dict[tuple[int, int], int] = {}
        why: list[list[str]] = [[] for _ in candidates]
        faults: list[RowFault] = []
        for (one, other), said in zip(places, heard, strict=True):
            try:
                winner = settled(said)
            except RowFault as fault:  # a comparison that fails decides nothing, as long as others do
                faults.append(fault)
                winner = TIE
            if winner in (A, B):
                better[one, other] = one if winner == A else other
                wins[better[one, other]] += 1
            else:
                wins[one] += 0.5
                wins[other] += 0.5
            for place in (one, other):
                why[place] += (key for opinion in said for key in opinion.keys)
        if len(faults) == len(places) or any(fault.kind == EXHAUSTED for fault in faults):
            raise most_passing(faults)
        scores = [won / (len(candidates) - 1) for won in wins]
        return Judged(scores, better, [tuple(keys) for keys in why])

    return compare


def _by_rubric(rubric: Rubric, calls: Any) -> Judge:
    scorer = Scorer(rubric)

    async def score(row: Row, candidates: Sequence[Candidate]) -> Judged:
        found = await scorer.score(calls, [{**row, REPLY: one.text} for one in candidates])
        faults = [one for one in found if isinstance(one, RowFault)]
        if faults:
            raise most_passing(faults)
        scored = [one for one in found if not isinstance(one, RowFault)]
        return Judged([one.total for one in scored], None, [one.keys for one in scored])

    return score


def _by_verifier(verifier: Part) -> Judge:
    checking = Checking(verifier)

    async def check(row: Row, candidates: Sequence[Candidate]) -> Judged:
        said = await checking.verdicts([({**row, REPLY: one.text}, one.text) for one in candidates])
        return Judged([float(verdict.accepted) for verdict in said], None, [()] * len(candidates))

    return check


def summary(made: Rows) -> Mapping[str, Any]:
    won: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    margin, longer = 0.0, 0
    for row in made:
        won[row["chosen_by"]] += 1
        lost[row["rejected_by"]] += 1
        margin += row["chosen_score"] - row["rejected_score"]
        longer += len(row["chosen"]) > len(row["rejected"])
    pairs = won.total()
    models = {name: {"chosen": won[name], "rejected": lost[name]} for name in sorted({*won, *lost})}
    facts: dict[str, Any] = {"pairs": pairs, "models": models}
    if pairs:
        # A judge that likes length shows here first.
        facts |= {"mean_margin": margin / pairs, "chosen_is_longer": longer / pairs}
    return facts
