"""`stillhouse run`: make what a recipe describes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import exits
from .interrupt import interruptible
from .opening import open_session, recipe_arguments, work_arguments
from .output import print_json
from .parser import FOLDER, positive
from .preview import go_on, preview

if TYPE_CHECKING:
    from ..core.session import Session
    from ..core.step import Step
    from .result import Outcome


def arguments(parser: argparse.ArgumentParser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--name", help="what to call the result (default: the recipe's `name`, or its file's)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N rows, through the whole road")
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
    tally = Tally()
    shown = not arguments.quiet
    with (
        interruptible(),
        open_session(folder, recipe.session, arguments, progress=shown, on_event=tally) as session,
    ):
        if arguments.preview is not None:
            with session.asking_live():
                seen = preview(session, step, arguments.preview)
            if not go_on(yes=arguments.yes):
                if arguments.json:
                    print_json({"name": name, "preview": [one.as_dict() for one in seen]})
                return exits.DONE
        else:
            _confirm(session, step, arguments)
        artifact = session.run(step, name=name)
        _keep_recipe(session, name, step, recipe.session_table)
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


def _keep_recipe(session: Session, name: str, step: Step[Any], settings: Mapping[str, Any]) -> None:
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
