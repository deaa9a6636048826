"""`stillhouse plan`: what a run would do; nothing is spent."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_session, recipe_arguments
from .output import print_json
from .parser import FOLDER, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="plan for N rows through the whole road")


def run(arguments: argparse.Namespace) -> int:
    from ..recipes.file import load_recipe
    from .limit import limited
    from .money import expected_bill

    recipe = load_recipe(arguments.recipe, arguments.changes)
    step = recipe.step if arguments.limit is None else limited(recipe.step, arguments.limit)
    folder = arguments.folder or recipe.output or FOLDER
    with open_session(folder, recipe.session, arguments, track=False, progress=False) as session:
        plan = session.plan(step)
        bill = expected_bill(session, step, plan)
    if arguments.json:
        paid = {"cost_usd": bill.cost_usd, "calls": bill.calls, "models": list(bill.models)}
        print_json({**plan.to_dict(), "paid": paid})
    else:
        print(plan)
        if not bill.free:
            print(f"{str(bill)[0].upper()}{str(bill)[1:]}.")
    return exits.DONE
