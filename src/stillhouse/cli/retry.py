"""`stillhouse retry`: ask again about rows that failed, and about no others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import exits
from .interrupt import interruptible
from .opening import open_session, work_arguments
from .output import print_json, say
from .parser import Parser, UsageError, positive
from .result import Outcome, Tally
from .run import tell

if TYPE_CHECKING:
    from ..core.session import Session
    from ..core.step import MapStep
    from ..core.store import Store
    from ..recipes.file import RecipeFile
    from .money import Bill


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("name", metavar="NAME", help="the name of a result")
    parser.add_argument(
        "--only",
        action="append",
        metavar="KIND",
        help="refused, cut, invalid, empty, degenerate, too_long, exhausted, rejected or error; may be given several "
        "times (default: all that failed)",
    )
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="longest reply, for these rows")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another field of the `Ask`, for these rows: temperature=0.7, model=openai/gpt-4o; may be repeated",
    )
    parser.add_argument("--recipe", metavar="FILE", help="the recipe file (default: the one kept beside the name)")
    work_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..core.retry import Retry
    from .opening import open_store

    asking = _asking(arguments)
    only = arguments.only or ["failed"]
    Retry.of(only)
    recipe = recipe_of(open_store(arguments.folder), arguments.name, arguments.recipe)
    tally = Tally()
    with (
        interruptible(),
        open_session(
            arguments.folder, recipe.session, arguments, progress=not arguments.quiet, on_event=tally
        ) as session,
    ):
        todo = session.to_retry(recipe.step, only)
        if not todo:
            return _nothing(session, recipe.step, only, arguments)
        for step, number in todo:
            say(f"{step.tag.partition('/')[0]}: {number:,} {'row' if number == 1 else 'rows'} to ask again")
        _confirm(session, todo, asking, arguments)
        artifact = session.retry(recipe.step, only=only, asking=asking, name=arguments.name)
        outcome = Outcome.of(session.store, arguments.name, artifact, tally)
    _tell_mended(outcome, todo)
    place = outcome.folder / arguments.name
    if (place / "recipe.yaml").is_file():
        say(f"the same `stillhouse distill` command lays `{place}` out anew; it makes nothing else")
    return tell(outcome, as_json=arguments.json)


def recipe_of(store: Store, name: str, given: str | None) -> RecipeFile:
    """The recipe that a name was made by: the file that is given, or the one that was kept."""
    from ..core.errors import RecipeError
    from ..core.names import Names
    from ..recipes.file import load_recipe

    Names(store).need(name)
    kept = (store.folder / "names" / f"{name}.yaml", store.folder / name / "recipe.yaml")
    path = next((path for path in kept if path.is_file()), None) if given is None else Path(given)
    if path is None:
        hint = "Name its file with `--recipe`, or use `session.retry(step)` in Python."
        raise RecipeError(f"no recipe is kept for `{name}`", hint)
    return load_recipe(path)


def _asking(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is changed about the asking, as values."""
    from ..calls.again import check_changes
    from ..recipes._marked_yaml import typed

    asking: dict[str, Any] = {} if arguments.max_tokens is None else {"max_tokens": arguments.max_tokens}
    for text in arguments.changes:
        name, equals, value = text.partition("=")
        if not (equals and name) or "." in name:
            raise UsageError(f"`--set {text}` sets nothing", "Write it as `--set temperature=0.7`.")
        asking[name] = typed(value, f"--set {text}")
    if asking:
        check_changes(asking)
    return asking


def _nothing(session: Session, step: Any, only: list[str], arguments: argparse.Namespace) -> int:
    others = session.to_retry(step)
    words = "failed" if "failed" in only else f"failed as {' or '.join(only)}"
    rest = (
        "" if not others else f" ({sum(number for _, number in others):,} failed otherwise: `stillhouse show` says how)"
    )
    say(f"no row of `{arguments.name}` {words}{rest}: nothing to ask again")
    if arguments.json:
        print_json({"name": arguments.name, "retried": 0})
    return exits.DONE


def _confirm(
    session: Session, todo: list[tuple[MapStep, int]], asking: dict[str, Any], arguments: argparse.Namespace
) -> None:
    from .money import confirm

    confirm(retry_bill(session, todo, asking), yes=arguments.yes)


def retry_bill(session: Session, todo: list[tuple[MapStep, int]], asking: dict[str, Any]) -> Bill:
    """What asking again may cost: as much for each row as the step expects of any.

    With another length its replies may all be as long as that, and another model has its own price.
    """
    from .money import Bill, cost_of, paid_models

    cost: float | None = 0.0
    calls: int | None = 0
    models: dict[str, None] = {}
    for step, number in todo:
        paid = paid_models(session, step, asking)
        expect = getattr(step, "expect", None)
        if not paid or expect is None:
            continue
        expected = expect(number, session)
        models |= dict.fromkeys(paid)
        calls = None if calls is None or expected.calls is None else calls + expected.calls
        same_price = asking.keys().isdisjoint(("max_tokens", "model", "endpoint"))
        more = expected.cost_usd if same_price else cost_of(session, step, asking, expected)
        cost = None if cost is None or more is None else cost + more
    return Bill(cost, calls, tuple(models), tuple(models) if cost is None else ())


def _tell_mended(outcome: Outcome, todo: list[tuple[MapStep, int]]) -> None:
    from ..core.store import Store
    from .records import records_behind

    tags = {step.tag for step, _ in todo}
    for record in records_behind(Store(outcome.folder, warn=say), outcome.name):
        if record["tag"] in tags and record.get("retries"):
            last = record["retries"][-1]
            say(f"{record['tag'].partition('/')[0]}: {last['mended']:,} of {last['rows']:,} rows mended")
