"""`stillhouse pin`: keep what a name means now."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("name", metavar="NAME")


def run(arguments: argparse.Namespace) -> int:
    from ..core.names import Names

    names = Names(open_store(arguments.folder))
    names.pin(arguments.name)
    kept = names.need(arguments.name)
    if arguments.json:
        print_json({"name": kept.name, "pinned": list(kept.pinned)})
    else:
        print(f"`{kept.name}` is pinned to {kept.build_key[:12]}")
    return exits.DONE
