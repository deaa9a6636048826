"""`stillhouse run`: make what a recipe describes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import exits
from .interrupt import interruptible
from .opening import open_session, recipe_arguments, work_arguments
from .output import print_json, say, table
from .parser import FOLDER, UsageError, positive
from .preview import go_on, preview

if TYPE_CHECKING:
    from ..core.session import Session
    from ..core.step import Step
    from .result import Outcome


def arguments(parser: argparse.ArgumentParser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--name", help="what to call the result (default: the recipe's `name`, or its file's)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N rows, through the whole road")
    parser.add_argument(
        "--shard", metavar="I/N", help="map the I-th of N shares, for array jobs; `stillhouse merge` joins them"
    )
    parser.add_argument("--preview", type=positive, metavar="N", help="show what the models make of N rows, then ask")
    work_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..recipes.file import load_recipe
    from .limit import limited
    from .result import Outcome, Tally

    recipe = load_recipe(arguments.recipe, arguments.changes)
    step, name = recipe.step, arguments.name or recipe.name
    if arguments.limit is not None:
        step, name = limited(step, arguments.limit), f"{name}-first-{arguments.limit}"
    folder = arguments.folder or recipe.output or FOLDER
    shard = None if arguments.shard is None else shard_of(arguments.shard)
    tally = Tally()
    shown = not arguments.quiet
    with (
        interruptible(),
        open_session(folder, recipe.session, arguments, progress=shown, on_event=tally) as session,
    ):
        if shard is not None:
            return _shard(session, step, name, shard, arguments)
        if arguments.preview is not None:
            with session.asking_live():
                seen = preview(session, step, arguments.preview)
            if not go_on(yes=arguments.yes):
                if arguments.json:
                    print_json({"name": name, "preview": [one.as_dict() for one in seen]})
                return exits.DONE
        else:
            confirm_run(session, step, arguments)
        artifact = session.run(step, name=name)
        keep_recipe(session, name, step, recipe.session_table)
        outcome = Outcome.of(session.store, name, artifact, tally)
    return tell(outcome, as_json=arguments.json)


def shard_of(text: str) -> tuple[int, int]:
    """`2/8` as (1, 8)."""
    first, slash, of = text.partition("/")
    if not (slash and first.isdigit() and of.isdigit() and 1 <= int(first) <= int(of)):
        raise UsageError(f"`--shard {text}` is no share", "Write it as `--shard 2/8`, counted from 1.")
    return int(first) - 1, int(of)


def _shard(session: Session, step: Step[Any], name: str, shard: tuple[int, int], arguments: argparse.Namespace) -> int:
    """One job of an array: its share of the map steps, under names that keep it from `gc`."""
    from dataclasses import replace

    from .money import confirm, expected_bill

    index, of = shard
    bill = expected_bill(session, step, session.plan(step))
    cost, calls = (None if value is None else value / of for value in (bill.cost_usd, bill.calls))
    confirm(replace(bill, cost_usd=cost, calls=None if calls is None else round(calls)), yes=arguments.yes)
    made = session.shard(step, index, of)
    for number, rows in enumerate(made):
        session.names.point(_shard_name(name, index, of, number), rows.key, rows.record["recipe_key"])
    told = [{"step": rows.record["tag"], **rows.record["counts"]} for rows in made]
    if arguments.json:
        print_json({"name": name, "shard": index + 1, "of": of, "steps": told})
    elif told:
        counted = [
            (entry["step"].partition("/")[0], *(entry[k] for k in ("in", "out", "dropped", "failed"))) for entry in told
        ]
        print(table(counted, ["step", "in", "out", "dropped", "failed"]))
    else:
        say("no map step is left to share out: `stillhouse run` makes the rest")
    return exits.INCOMPLETE if any(entry["failed"] for entry in told) else exits.DONE


def _shard_name(name: str, index: int, of: int, number: int) -> str:
    return f"{name[:60]}-shard-{index + 1}-of-{of}" + (f".{number}" if number else "")


def forget_shards(session: Session, name: str) -> None:
    """The shares of a merged result need no names any more."""
    import re

    pattern = re.compile(re.escape(name[:60]) + r"-shard-\d+-of-\d+(\.\d+)?")
    for known in list(session.names.all()):
        if pattern.fullmatch(known.name) and not known.pinned:
            session.names.remove(known.name)


def tell(outcome: Outcome, *, as_json: bool) -> int:
    """Print an outcome; returns its exit code."""
    if as_json:
        print_json(outcome.as_dict())
    else:
        print(outcome)
    outcome.complain()
    return outcome.code


def confirm_run(session: Session, step: Step[Any], arguments: argparse.Namespace) -> None:
    from .money import confirm, expected_bill

    confirm(expected_bill(session, step, session.plan(step)), yes=arguments.yes)


def keep_recipe(session: Session, name: str, step: Step[Any], settings: Mapping[str, Any]) -> None:
    """Write the resolved recipe beside the name; it runs as it stands."""
    import yaml

    from ..core.errors import RecipeError
    from ..core.store import write_bytes
    from ..recipes.file import recipe_table

    target = session.store.folder / "names" / f"{name}.yaml"
    try:
        table = recipe_table(step, target.parent)
    except RecipeError as error:
        session.bus.publish("warning", message=f"the resolved recipe is not kept: {error.message}")
        return
    if settings:
        table["session"] = dict(settings)
    text = yaml.safe_dump({"name": name, "output": "..", **table}, sort_keys=False, allow_unicode=True, width=100)
    write_bytes(target, text.encode())
