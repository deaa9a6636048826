"""`stillhouse rm`: forget names."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("names", metavar="NAME", nargs="+")


def run(arguments: argparse.Namespace) -> int:
    from ..core.names import Names

    names = Names(open_store(arguments.folder))
    for name in arguments.names:
        names.need(name)
    for name in arguments.names:
        names.remove(name)
    if arguments.json:
        print_json({"forgotten": arguments.names})
    else:
        print(f"forgotten: {', '.join(arguments.names)} (`stillhouse gc` frees the room)")
    return exits.DONE
