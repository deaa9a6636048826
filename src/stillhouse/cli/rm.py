"""`stillhouse rm`: forget names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser

if TYPE_CHECKING:
    from ..core.store import Store


LAID_OUT = ("recipe.yaml", "asking.json")
"""What `distill` writes into its folder beside the links."""


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("names", metavar="NAME", nargs="+")


def run(arguments: argparse.Namespace) -> int:
    from ..core.names import Names

    store = open_store(arguments.folder)
    names = Names(store)
    for name in arguments.names:
        names.need(name)
    for name in arguments.names:
        names.remove(name)
        _tidy(store, name)
    if arguments.json:
        print_json({"forgotten": arguments.names})
    else:
        print(f"forgotten: {', '.join(arguments.names)} (`stillhouse gc` frees the room)")
    return exits.DONE


def _tidy(store: Store, name: str) -> None:
    """Take away what was laid out under the name: its recipe, and in its folder the links into the store."""
    (store.folder / "names" / f"{name}.yaml").unlink(missing_ok=True)
    folder = store.folder / name
    if not folder.is_dir() or folder.is_symlink():
        return
    inside = store.artifacts.resolve()
    for path in folder.iterdir():
        if path.name in LAID_OUT or (path.is_symlink() and inside in path.resolve().parents):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
