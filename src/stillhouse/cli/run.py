"""`stillhouse run`: make what a recipe describes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .interrupt import interruptible
from .opening import open_session, recipe_arguments, work_arguments
from .output import print_json, say
from .parser import FOLDER, positive

if TYPE_CHECKING:
    from ..core.session import Session
    from ..core.step import Step
    from .result import Outcome


def arguments(parser: argparse.ArgumentParser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--name", help="what to call the result (default: the recipe's `name`, or its file's)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N rows, through the whole road")
    parser.add_argument("--preview", type=positive, metavar="N", help="show N rows that the models made, then ask")
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
    tally = Tally()
    shown = not arguments.quiet
    with (
        interruptible(),
        open_session(folder, recipe.session, arguments, progress=shown, on_event=tally) as session,
    ):
        if arguments.preview is not None:
            _preview(session, step, arguments)
        _confirm(session, step, arguments)
        artifact = session.run(step, name=name)
        _keep_recipe(session, name, step)
        outcome = Outcome.of(session.store, name, artifact, tally)
    return tell(outcome, as_json=arguments.json)


def tell(outcome: Outcome, *, as_json: bool) -> int:
    """Print an outcome; returns its exit code."""
    if as_json:
        print_json(outcome.as_dict())
    else:
        print(outcome)
    outcome.complain()
    return outcome.code


def _confirm(session: Session, step: Step[Any], arguments: argparse.Namespace) -> None:
    from .money import confirm, expected_bill

    confirm(expected_bill(session, step, session.plan(step)), yes=arguments.yes)


def _preview(session: Session, step: Step[Any], arguments: argparse.Namespace) -> None:
    """Make a few rows as far as models are asked, and show them."""
    from ..core.artifact import Rows
    from ..rows.preview import preview
    from .limit import limited
    from .money import asking_steps

    tables = [each for each in asking_steps(limited(step, arguments.preview)) if type(each).makes() is Rows]
    if not tables:
        say("no step of this recipe makes rows by asking a model: there is nothing to preview")
        return
    _confirm(session, tables[-1], arguments)
    for each in tables:
        rows = session.run(each)
        say(f"{each.tag.partition('/')[0]}: {len(rows):,} rows\n{preview(rows, arguments.preview)}\n")


def _keep_recipe(session: Session, name: str, step: Step[Any]) -> None:
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
    text = yaml.safe_dump({"name": name, "output": "..", **table}, sort_keys=False, allow_unicode=True, width=100)
    write_bytes(target, text.encode())
