"""`stillhouse merge`: join what the jobs of `run --shard` made, and make the rest."""

from __future__ import annotations

import argparse

from . import exits
from .interrupt import interruptible
from .opening import open_session, recipe_arguments, work_arguments
from .output import print_json, say
from .parser import FOLDER, Parser, positive


def arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="session folders of jobs that had their own")
    parser.add_argument("--shards", type=positive, required=True, metavar="N", help="how many jobs there were")
    parser.add_argument("--name", help="what to call the result (default: the recipe's `name`, or its file's)")
    parser.add_argument(
        "--join-only", action="store_true", help="make nothing else: jobs can share out what comes after"
    )
    work_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..recipes.file import load_recipe
    from .result import Outcome, Tally
    from .run import forget_shards, keep_recipe, tell

    recipe = load_recipe(arguments.recipe, arguments.changes)
    name = arguments.name or recipe.name
    folder = arguments.folder or recipe.output or FOLDER
    tally = Tally()
    with (
        interruptible(),
        open_session(folder, recipe.session, arguments, progress=not arguments.quiet, on_event=tally) as session,
    ):
        session.merge(recipe.step, arguments.shards, folders=arguments.folders, rest=False)
        if arguments.join_only:
            say(f"joined: {tally.made:,} steps")
            if arguments.json:
                print_json({"name": name, "joined": tally.made})
            return exits.DONE
        from .run import confirm_run

        confirm_run(session, recipe.step, arguments)
        artifact = session.run(recipe.step, name=name)
        keep_recipe(session, name, recipe.step, recipe.session_table)
        forget_shards(session, name)
        outcome = Outcome.of(session.store, name, artifact, tally)
    return tell(outcome, as_json=arguments.json)
