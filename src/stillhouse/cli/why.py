"""`stillhouse why`: the fields in which a result or a recipe differs from the nearest earlier one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import exits
from .opening import changes_argument, folder_argument, open_session, open_store
from .output import print_json
from .parser import FOLDER, Parser

if TYPE_CHECKING:
    from ..core.definition import Difference
    from ..core.plan import Planned
    from ..core.store import Store


def arguments(parser: Parser) -> None:
    parser.add_argument("what", metavar="WHAT", help="a recipe file, a name, a key, or a step such as curate.dedup")
    parser.add_argument("node", metavar="NODE", nargs="?", help="one node of the recipe file")
    changes_argument(parser)
    folder_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    if Path(arguments.what).suffix in (".yaml", ".yml") or Path(arguments.what).is_file():
        found = _of_recipe(arguments)
    else:
        found = _of_result(open_store(arguments.folder or FOLDER), arguments.what)
    if arguments.json:
        print_json(
            [
                {
                    "step": step,
                    "against": against,
                    "differences": [difference._asdict() for difference in differences],
                }
                for step, against, differences in found
            ]
        )
        return exits.DONE
    for step, against, differences in found:
        print(f"{step}: {against}")
        for difference in differences:
            print(f"  {difference}")
    if not found:
        print("everything is made; nothing differs")
    return exits.DONE


def _of_recipe(arguments: argparse.Namespace) -> list[tuple[str, str, Sequence[Difference]]]:
    from ..core.errors import RecipeError
    from ..recipes.file import load_recipe

    recipe = load_recipe(arguments.what, arguments.changes)
    folder = open_store(arguments.folder or recipe.output or FOLDER).folder
    step = recipe.step
    if arguments.node is not None:
        if arguments.node not in recipe.nodes:
            known = ", ".join(recipe.nodes) or "none: it names a function"
            raise RecipeError(f"`{arguments.what}` has no node `{arguments.node}`", f"Its nodes: {known}.")
        step = recipe.nodes[arguments.node]
    with open_session(folder, recipe.session, arguments, track=False, progress=False) as session:
        plan = session.plan(step)
        shown = plan.to_run if arguments.node is None else plan.steps[-1:]
    return [(entry.tag, _told(entry), entry.reasons) for entry in shown]


def _told(entry: Planned) -> str:
    from ..core.plan import asked_again

    if entry.state == "cached":
        return "is made already"
    if entry.unanswered:
        return f"will run; {asked_again(entry.unanswered)}"
    if entry.state == "may be cut off" and not entry.reasons:
        return "runs again only where an input comes out different"
    if entry.reasons:
        return "will run; it differs from the nearest earlier one in"
    return "will run; none of its kind was made before, or its result is gone"


def _of_result(store: Store, target: str) -> list[tuple[str, str, Sequence[Difference]]]:
    from ..core.definition import differences

    key, before = _recipes(store, target)
    entry = store.entry(key)
    if entry is None:
        return [(target, "its definition is not in the index", [])]
    earlier = store.entry(before) if before is not None else None
    if earlier is None:
        return [(entry["tag"], "the first of its kind", [])]

    def recall(recipe_key: str) -> Mapping[str, Any] | None:
        known = store.entry(recipe_key)
        return None if known is None else known["definition"]

    found = differences(earlier["definition"], entry["definition"], recall)
    return [(entry["tag"], f"against {earlier['build_key'][:12]}, made before", found)]


def _recipes(store: Store, target: str) -> tuple[str, str | None]:
    """The recipe key of a name, tag or key, and that of what it is held against."""
    from ..core.catalogue import catalogue
    from ..core.names import Names
    from .records import key_of

    if target.partition("/")[0] in catalogue():
        newest = _newest(store, target.partition("/")[0])
        return newest, _nearest(store, newest)
    name = Names(store).find(target)
    if name is not None and len(name.history) > 1:
        return name.recipe_key, str(name.history[-2]["recipe_key"])
    build_key = key_of(store, target)
    artifact = store.open(build_key)
    key = str(artifact.record["recipe_key"]) if name is None and artifact is not None else ""
    key = name.recipe_key if name is not None else key
    return key, _nearest(store, key)


def _newest(store: Store, tag: str) -> str:
    from ..core.errors import RecipeError

    found = [(entry["time"], key) for key, entry in store.entries() if entry["tag"].partition("/")[0] == tag]
    if not found:
        raise RecipeError(f"no `{tag}` was made in `{store.folder}` yet")
    return max(found)[1]


def _nearest(store: Store, key: str) -> str | None:
    """The earlier recipe of the same kind that differs in the fewest fields; of equal ones the newest."""
    from ..core.definition import differences

    entry = store.entry(key)
    if entry is None:
        return None

    def recall(recipe_key: str) -> Mapping[str, Any] | None:
        known = store.entry(recipe_key)
        return None if known is None else known["definition"]

    ranks = [
        (len(differences(other["definition"], entry["definition"], recall)), -other["time"], other_key)
        for other_key, other in store.entries()
        if other_key != key and other["tag"] == entry["tag"] and other["time"] < entry["time"]
    ]
    return min(ranks)[2] if ranks else None
