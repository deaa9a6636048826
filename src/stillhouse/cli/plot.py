"""`stillhouse plot`: a metric over steps, in the terminal or as a PNG file."""

from __future__ import annotations

import argparse
import shutil

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("metric", metavar="METRIC", help="its name, e.g. loss")
    parser.add_argument("--run", dest="runs", action="append", default=[], metavar="RUN", help="a run by id or name")
    parser.add_argument("--png", metavar="FILE", help="write a PNG file instead")
    parser.add_argument("--log", action="store_true", help="a logarithmic axis")


def run(arguments: argparse.Namespace) -> int:
    from ..track.plot import curves, plot_png, plot_text

    folder = open_store(arguments.folder).folder
    if arguments.png:
        path = plot_png(folder, arguments.metric, arguments.png, arguments.runs, log=arguments.log)
        if arguments.json:
            print_json({"path": str(path)})
        else:
            print(path)
    elif arguments.json:
        print_json([curve._asdict() for curve in curves(folder, arguments.metric, arguments.runs)])
    else:
        width = min(120, max(40, shutil.get_terminal_size().columns))
        print(plot_text(folder, arguments.metric, arguments.runs, width=width, log=arguments.log))
    return exits.DONE
