"""`stillhouse funnel`: what became of the rows on the way to a result, and how diverse they are."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser, positive


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("name", metavar="NAME", help="a name or key")
    parser.add_argument(
        "--no-diversity", dest="diversity", action="store_false", help="do not read the tables to measure diversity"
    )
    parser.add_argument(
        "--column",
        dest="columns",
        action="append",
        default=[],
        metavar="COLUMN",
        help="measure diversity of this column; may be given several times (default: all columns of text)",
    )
    parser.add_argument("--sample", type=positive, default=2000, metavar="N", help="rows that are measured (2000)")
    parser.add_argument("--svg", metavar="FILE", help="write a picture as well")


def run(arguments: argparse.Namespace) -> int:
    from ..core.errors import RecipeError
    from ..curate.funnel import funnel, funnel_svg, funnel_text
    from .records import find

    store = open_store(arguments.folder)
    artifact = find(store, arguments.name)
    stages = funnel(store, artifact, diversity=arguments.diversity, columns=arguments.columns, sample=arguments.sample)
    if arguments.svg:
        try:
            Path(arguments.svg).write_text(funnel_svg(stages, arguments.name), encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"`{arguments.svg}` cannot be written: {error.strerror or error}") from error
    if arguments.json:
        print_json([stage._asdict() for stage in stages])
    else:
        print(funnel_text(stages, max(80, shutil.get_terminal_size((120, 24)).columns)))
        if arguments.svg:
            print(f"\n{arguments.svg}")
    return exits.DONE
