"""The road from a few examples to a measured student, as steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..calls.ask import Ask
from ..core.artifact import Files, Model, Report, Rows
from ..core.errors import RecipeError
from ..core.functions import resolve
from ..core.part import Part
from ..core.step import Step
from ..curate.decontaminate import Decontaminate
from ..curate.dedup import Dedup
from ..curate.keep import Keep
from ..curate.split_apart import SplitApart
from ..evaluate.compare import Compare
from ..evaluate.neighbour import NearestNeighbour
from ..evaluate.novelty import Novelty
from ..evaluate.overlap import RefuseOverlap
from ..evaluate.predict import Predict
from ..generate.amplify import Amplify
from ..generate.answer import Answer
from ..generate.cot import SynthesizeCoT
from ..generate.policy import ExtractPolicy
from ..measure.exact_match import ExactMatch
from ..measure.function_verifier import VERIFIER, name_of, takes
from ..measure.json_fields import JsonFields
from ..measure.token_f1 import TokenF1
from ..models.adapter import Lora
from ..models.pretrained import Pretrained
from ..publish.report import ReportPage
from ..rows.combine import Concat
from ..rows.conversation import ToMessages
from ..rows.import_ import Import
from ..rows.split import Split
from ..rows.transform import Filter
from ..text.schema import Schema
from ..tokens.tokenize import Tokenize
from ..train.finetune import Finetune
from .changes import Changes
from .scratch import Scratch

Examples = str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Step[Rows]
"""Rows with `input` and `output`: a file, a list, or a step."""
Verify = Part | Callable[[Mapping[str, Any]], bool | str] | Callable[[Mapping[str, Any], str], bool | str]
"""A verifier part, or a function of a row, or of a row and its output, that returns True, False or the reason against
it."""
Student = str | os.PathLike[str] | Scratch | Step[Model]
"""A hub name or folder, a shape to train from scratch, or a step."""

NAMES = (
    "seeds",
    "held_out",
    "traces",
    "policy",
    "amplify",
    "answer",
    "dedup",
    "verify",
    "decontaminate",
    "validation",
    "messages",
    "finetune",
    "seeds_only",
    "compare",
    "report",
)
"""What `distillation(…, NAME={"field": value})` can change."""
Thinking = Literal["tags", "drop"]
END_OF_THINKING = "</think>"


@dataclass(frozen=True)
class Distillation:
    """The steps of a distillation by name; running `report` runs all."""

    seeds: Step[Rows]
    traces: Step[Rows]
    policy: Step[Report]
    amplified: Step[Rows]
    answered: Step[Rows]
    curated: Step[Rows]
    train: Step[Rows]
    validation: Step[Rows]
    held_out: Step[Rows]
    tokenizer: Step[Files] | None
    before: Step[Model]
    seeds_only: Step[Model]
    after: Step[Model]
    comparison: Step[Report]
    report: Step[Report]
    system: str | None
    """The system message with which the student was trained and is to be asked."""

    def steps(self) -> dict[str, Step[Any]]:
        """All of them, in the order of the road."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: step for name, step in named.items() if isinstance(step, Step)}


def distillation(
    seed: Examples,
    instruction: str,
    teacher: str | Ask,
    student: Student,
    augment_factor: float = 50,
    *,
    response_model: Any = None,  # a pydantic model class, a JSON Schema or a `Schema`
    held_out: Examples | None = None,
    verify: Verify | None = None,
    samples: int = 1,
    difficulty: Mapping[str, float] | None = None,
    steer: Sequence[str] = (),
    clusters: Literal["auto"] | int | None = None,
    endpoint: str | None = None,
    thinking: Thinking | None = None,
    max_tokens: int = 512,
    title: str = "Distillation",
    **changes: Mapping[str, Any],
) -> Distillation:
    """The steps from `seed` to a student that is held against itself before, against one that saw the seeds alone, and
    against the answer of the nearest seed.

    `samples` above 1 put each answer to the vote. `difficulty` is the mix of the new inputs, in shares of `easy`,
    `medium` and `hard`; `steer` spreads them over the task's `patterns`, its `lengths`, or both; `clusters` (`auto` or
    a number) describes groups of like seeds apart, and each call writes for one of them. `endpoint` is the URL of the
    server that serves the teacher. `thinking` says whether the student learns to reason in `<think>` tags before it
    answers; None: pretrained students do. `max_tokens` bounds the replies that are compared. Without `held_out` a tenth
    of the new rows, unlike all others and the seeds, is held out. `changes` are fields of single steps by the names in
    `NAMES`: `amplify={"per_call": 20}`.
    """
    changed = Changes("distillation", NAMES, changes)
    response = _schema(response_model)
    exact, varied, free = _asks(teacher, samples, endpoint)
    seeds = _rows(changed, "seeds", seed)
    told = {"instruction": instruction, "response": response}
    traces = changed.make("traces", SynthesizeCoT, rows=seeds, by=varied, **told)
    policy = changed.make("policy", ExtractPolicy, rows=traces, by=exact, instruction=instruction, clusters=clusters)
    amplified = changed.make(
        "amplify",
        Amplify,
        rows=traces,
        policy=policy,
        by=free,
        instruction=instruction,
        factor=augment_factor,
        difficulty=difficulty,
        steer=(steer,) if isinstance(steer, str) else tuple(steer),
    )
    answered = changed.make(
        "answer", Answer, rows=amplified, by=exact, policy=policy, examples=traces, samples=samples, **told
    )
    chosen = _chosen(changed, answered, traces, verify, held_out)
    parts = changed.make("validation", Split, rows=chosen.rows, test_size=0.05)
    taught = _taught(changed, student, parts, traces, instruction, thinking)
    on = Novelty(rows=chosen.test, against=parts.train)
    models = {
        "before": taught.answers(taught.base, on, max_tokens),
        "seeds only": taught.answers(taught.seeds_only, on, max_tokens),
        "nearest seed": NearestNeighbour(rows=traces, on=on),
        "after": taught.answers(taught.after, on, max_tokens),
    }
    metrics = (ExactMatch(normaliser="json"), TokenF1() if response is None else JsonFields())
    comparison = changed.make("compare", Compare, models=models, on=on, metrics=metrics, slices=("familiar",))
    funnel = {
        "seeds": traces,
        "new inputs": amplified,
        "answers": answered,
        **chosen.stages,
        "training": parts.train,
        "watched in training": parts.test,
    }
    report = changed.make(
        "report",
        ReportPage,
        title=title,
        description=_description(instruction, held_out),
        comparison=comparison,
        model=taught.after,
        funnel=funnel,
    )
    return Distillation(
        seeds=seeds,
        traces=traces,
        policy=policy,
        amplified=amplified,
        answered=answered,
        curated=chosen.curated,
        train=parts.train,
        validation=parts.test,
        held_out=on,
        tokenizer=taught.tokenizer,
        before=taught.base,
        seeds_only=taught.seeds_only,
        after=taught.after,
        comparison=comparison,
        report=report,
        system=taught.system,
    )


def _asks(teacher: str | Ask, samples: int, endpoint: str | None) -> tuple[Ask, Ask, Ask]:
    """The teacher as it is asked for answers, for reasoning that may be asked for again, and for new inputs.

    An `Ask` is taken as it is for all three.
    """
    if isinstance(teacher, Ask):
        if endpoint is not None:
            raise RecipeError("distillation: `endpoint` goes with the name of a teacher", "Put it into the `Ask`.")
        return teacher, teacher, teacher
    exact = 0.0 if samples == 1 else 0.7
    return (
        Ask(model=teacher, endpoint=endpoint, temperature=exact),
        Ask(model=teacher, endpoint=endpoint, temperature=0.7),
        Ask(model=teacher, endpoint=endpoint, temperature=1.0),
    )


def _schema(response_model: Any) -> Schema | None:
    return response_model if response_model is None or isinstance(response_model, Schema) else Schema(response_model)


def _rows(changed: Changes, name: str, given: Examples) -> Step[Rows]:
    if isinstance(given, Step):
        return given
    if isinstance(given, str | os.PathLike):
        return changed.make(name, Import, path=given)
    return changed.make(name, Import, data=tuple(given))


@dataclass(frozen=True)
class Chosen:
    """The new rows that were good enough, and all rows parted into those to learn from and those to be measured on."""

    curated: Step[Rows]
    rows: Step[Rows]
    test: Step[Rows]
    stages: dict[str, Step[Rows]]
    """The steps on the way, by what is true of their rows."""


def _chosen(
    changed: Changes, answered: Step[Rows], seeds: Step[Rows], verify: Verify | None, held_out: Examples | None
) -> Chosen:
    stages: dict[str, Step[Rows]] = {}
    curated: Step[Rows] = changed.make("dedup", Dedup, rows=answered)
    stages["not alike"] = curated
    if verify is not None:
        curated = stages["verified"] = changed.make("verify", _judge(verify), rows=curated, where=verify)
    if held_out is None:
        apart = SplitApart(rows=curated, test_size=0.1, known=seeds)
        return Chosen(curated, Concat(rows=(apart.train, seeds)), apart.test, {**stages, "held out": apart.test})
    test = RefuseOverlap(rows=_rows(changed, "held_out", held_out), seeds=seeds)
    against = {"held out": test}
    curated = changed.make("decontaminate", Decontaminate, rows=curated, against=against)
    known = changed.make("decontaminate", Decontaminate, rows=seeds, against=against)
    stages["unlike the test set"] = curated
    return Chosen(curated, Concat(rows=(curated, known)), test, stages)


def _judge(verify: Verify) -> type[Keep] | type[Filter]:
    """The step for a verifier part, a function of a row and its reply, or one of a row."""
    if isinstance(verify, Part):
        return Keep
    function = resolve(verify)
    if takes(function, 1):
        return Filter
    if takes(function, 2):
        return Keep
    raise RecipeError(
        f"distillation: `{name_of(function)}` is no `verify`: it takes neither a row nor a row and its output",
        f"Write it as `def verify(row)` or `{VERIFIER}`.",
    )


def _description(instruction: str, held_out: Examples | None) -> str:
    if held_out is not None:
        return instruction
    return f"{instruction} (Measured on generated rows that were held out: their answers are the teacher's.)"


@dataclass(frozen=True)
class Taught:
    """A student in three states, and how it is asked."""

    base: Step[Model]
    seeds_only: Step[Model]
    after: Step[Model]
    tokenizer: Step[Files] | None
    system: str | None
    thinking: Thinking

    def answers(self, model: Step[Model], on: Step[Rows], max_tokens: int) -> Step[Rows]:
        """What `model` replies to the rows of `on`, without its thinking."""
        mark = END_OF_THINKING if self.thinking == "tags" else None
        return Predict(rows=on, by=Ask(model=model, system=self.system, max_tokens=max_tokens), answer_after=mark)


def _taught(
    changed: Changes, student: Student, parts: Split, seeds: Step[Rows], instruction: str, thinking: Thinking | None
) -> Taught:
    """The student trained on `parts`, and the same one trained on `seeds` alone."""
    scratch = student if isinstance(student, Scratch) else None
    thinking = thinking or ("tags" if scratch is None else "drop")
    system = instruction if scratch is None else None

    settings: dict[str, Any] = {} if changed.of("finetune").get("steps") else {"epochs": 3}
    settings |= {"adapter": Lora(), "seq_len": 1024} if scratch is None else {"seq_len": min(256, scratch.max_length)}
    settings |= changed.of("finetune")

    def conversations(rows: Step[Rows]) -> ToMessages:
        return changed.make("messages", ToMessages, rows=rows, system=system, thinking=thinking)

    def tokens(rows: Step[Rows], base: Step[Model]) -> Tokenize:
        return Tokenize(rows=conversations(rows), tokenizer=base, max_length=settings["seq_len"])

    if scratch is not None:
        tokenizer = scratch.tokenizer(conversations(parts.train))
        base: Step[Model] = scratch.model(tokenizer)
    else:
        tokenizer = None
        base = student if isinstance(student, Step) else Pretrained(name=str(student))
    after = Finetune(base=base, tokens=tokens(parts.train, base), held_out=tokens(parts.test, base), **settings)
    # As many passes as it takes to know so few rows by heart; nothing to watch, for every row is needed.
    passes = None if changed.of("seeds_only").get("steps") else 40
    settings |= {"epochs": passes, "steps": None, "evaluate_every": None, "patience": None}
    seeds_only = changed.make("seeds_only", Finetune, base=base, tokens=tokens(seeds, base), **settings)
    return Taught(base, seeds_only, after, tokenizer, system, thinking)
