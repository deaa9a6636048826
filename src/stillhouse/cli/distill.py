"""`stillhouse distill`: a dozen examples in, a small measured model out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import exits
from .interrupt import interruptible
from .opening import open_session, work_arguments
from .output import fields, print_json
from .parser import Parser, UsageError, positive
from .preview import go_on, preview

if TYPE_CHECKING:
    from ..calls.endpoint import Endpoint
    from ..recipes.distill import DistillResult
    from ..recipes.distillation import Distillation, Student
    from .result import Outcome

SCRATCH = "scratch"


def arguments(parser: Parser) -> None:
    parser.add_argument("--name", required=True, help="what to call it; the result is OUTPUT/NAME")
    parser.add_argument("--seed", required=True, metavar="FILE", help="a dozen rows with `input` and `output`")
    parser.add_argument("--instruction", required=True, metavar="TEXT", help="the task in a sentence")
    parser.add_argument(
        "--teacher", required=True, metavar="MODEL", help="openai/gpt-4o-mini, python:module, local:FOLDER …"
    )
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that serves the teacher")
    parser.add_argument("--api-key-variable", metavar="NAME", help="the variable that holds the endpoint's key")
    parser.add_argument(
        "--student",
        required=True,
        metavar="MODEL",
        help="a hub name or folder, or `scratch` for a small one from random weights (`scratch:layers=3,hidden=96`)",
    )
    parser.add_argument("--factor", type=float, default=50, metavar="N", help="new rows for each seed (default: 50)")
    parser.add_argument(
        "--difficulty",
        type=_shares,
        metavar="LEVEL=SHARE,…",
        help="the mix of new inputs: easy=0.3,medium=0.5,hard=0.2 (without it, as the teacher likes)",
    )
    parser.add_argument(
        "--steer",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="WHAT,…",
        help="spread new inputs over the task's `patterns`, over the seeds' `lengths`, or both: patterns,lengths",
    )
    parser.add_argument(
        "--clusters",
        type=_clusters,
        metavar="auto|N",
        help="describe groups of like seeds apart, and write new inputs for each: auto, or how many",
    )
    parser.add_argument("--held-out", metavar="FILE", help="rows to measure on; without it a tenth of the rows")
    parser.add_argument("--response-model", metavar="MODULE:CLASS", help="a pydantic model that every output follows")
    parser.add_argument("--verify", metavar="MODULE:FUNCTION", help="a function of a row that says whether it is right")
    parser.add_argument("--samples", type=positive, default=1, metavar="K", help="answers put to the vote (default: 1)")
    parser.add_argument("--max-tokens", type=positive, default=512, metavar="N", help="longest reply compared")
    parser.add_argument("--output", default="outputs", metavar="FOLDER", help="the session folder (default: outputs)")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="STEP.FIELD=VALUE",
        help="change one field of a step, e.g. finetune.epochs=5; may be given several times",
    )
    parser.add_argument("--preview", type=positive, metavar="N", help="show what the teacher makes of N rows, then ask")
    work_arguments(parser)


def _shares(text: str) -> dict[str, float]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        return {level.strip(): float(share) for level, _, share in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no mix; write it as `easy=0.3,medium=0.5,hard=0.2`") from None


def _clusters(text: str) -> str | int:
    if text != "auto" and not (text.isdecimal() and int(text) > 1):
        raise argparse.ArgumentTypeError(f"`{text}` is neither `auto` nor a number above 1")
    return text if text == "auto" else int(text)


def run(arguments: argparse.Namespace) -> int:
    from ..recipes.distill import deliver
    from ..recipes.settings import SessionSettings
    from .money import confirm, expected_bill
    from .result import Outcome, Tally

    steps = _steps(arguments)
    tally = Tally()
    settings = SessionSettings(endpoints=_endpoints(arguments))
    with (
        interruptible(),
        open_session(arguments.output, settings, arguments, progress=not arguments.quiet, on_event=tally) as session,
    ):
        if arguments.preview is not None:
            with session.asking_live():
                seen = preview(session, steps.report, arguments.preview)
            if not go_on(yes=arguments.yes):
                if arguments.json:
                    print_json({"name": arguments.name, "preview": [one.as_dict() for one in seen]})
                return exits.DONE
        else:
            confirm(expected_bill(session, steps.report, session.plan(steps.report)), yes=arguments.yes)
        result = deliver(session, arguments.name, steps)
        made = session.store.open(session.names.need(arguments.name).build_key)
        assert made is not None
        outcome = Outcome.of(session.store, arguments.name, made, tally)
    return _tell(result, outcome, as_json=arguments.json)


def _steps(arguments: argparse.Namespace) -> Distillation:
    from ..core.functions import resolve
    from ..core.names import checked_name
    from ..recipes.distillation import distillation

    checked_name(arguments.name)
    return distillation(
        arguments.seed,
        arguments.instruction,
        arguments.teacher,
        _student(arguments.student),
        arguments.factor,
        response_model=None if arguments.response_model is None else resolve(arguments.response_model),
        held_out=arguments.held_out,
        verify=None if arguments.verify is None else resolve(arguments.verify),
        samples=arguments.samples,
        difficulty=arguments.difficulty,
        steer=arguments.steer,
        clusters=arguments.clusters,
        endpoint=arguments.endpoint,
        max_tokens=arguments.max_tokens,
        title=arguments.name,
        **_changes(arguments.changes),
    )


def _endpoints(arguments: argparse.Namespace) -> dict[str, Endpoint]:
    """The endpoint with the variable of its key, where one was named."""
    from ..calls.endpoint import Endpoint

    url, variable = arguments.endpoint, arguments.api_key_variable
    if variable is None:
        return {}
    if url is None:
        raise UsageError("`--api-key-variable` goes with `--endpoint`", "Providers have variables of their own.")
    return {url: Endpoint(url, api_key=variable)}


def _student(text: str) -> Student:
    from ..recipes._marked_yaml import typed
    from ..recipes.scratch import Scratch

    kind, _, shape = text.partition(":")
    if kind != SCRATCH:
        return text
    pairs = [pair.partition("=") for pair in shape.split(",") if pair]
    return Scratch(**{name: typed(value, f"--student {text}") for name, _, value in pairs})


def _changes(given: list[str]) -> dict[str, Any]:
    """`finetune.epochs=5` as {"finetune": {"epochs": 5}}, the names of steps checked."""
    from ..recipes._marked_yaml import typed
    from ..recipes.changes import Changes
    from ..recipes.distillation import NAMES

    changes: dict[str, Any] = {}
    for text in given:
        place, equals, value = text.partition("=")
        step, dot, name = place.partition(".")
        if not (equals and dot and name):
            raise UsageError(f"`--set {text}` sets nothing", "Write it as `--set finetune.epochs=5`.")
        changes.setdefault(step, {})[name] = typed(value, f"--set {text}")
    Changes("distill", NAMES, changes)
    return changes


def _tell(result: DistillResult, outcome: Outcome, *, as_json: bool) -> int:
    if as_json:
        told = outcome.as_dict()
        shown = {
            name: told[name]
            for name in ("name", "seconds", "calls", "steps_made", "failed", "unanswered", "failed_gates")
        }
        places = {"folder": str(result.folder), "model": str(result.model_path), "report": str(result.report)}
        print_json({**shown, **places, "metrics": result.metrics, "coverage": result.coverage, "cost_usd": result.cost})
    else:
        print(result.summary)
        for line in _reached(result.coverage):
            print(line)
        cost = "unknown" if result.cost is None else f"${result.cost:,.4f}"
        print(f"\n{fields({'model': result.model_path, 'report': result.report, 'cost': cost})}")
        print(f"\nTalk to it: stillhouse chat {result.folder}")
    outcome.complain()
    return exits.INCOMPLETE if outcome.failed or outcome.gates else exits.DONE


def _reached(coverage: dict[str, Any]) -> list[str]:
    """What came of what was planned, a line for each plan."""
    lines = []
    for axis, cells in coverage.items():
        planned = {name: cell for name, cell in cells.items() if cell["planned"]}
        if planned:
            told = ", ".join(f"{name} {cell['reached']:.0%} of {cell['planned']:.0%}" for name, cell in planned.items())
            lines.append(f"{axis} of the new inputs: {told}")
    return lines
