"""`stillhouse query`: SQL over the store; it only reads."""

from __future__ import annotations

import argparse
import sys

from . import exits
from .opening import open_store
from .output import print_json, say, table
from .parser import Parser, positive

SHOWN = 100


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("sql", metavar="SQL", help='one SELECT, e.g. "SELECT * FROM runs"')
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    text = f"rows to print (default: {SHOWN} in a table, else all)"
    parser.add_argument("--limit", type=positive, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> int:
    from ..track.query import query

    store = open_store(arguments.folder)
    as_table = not (arguments.json or arguments.csv)
    shown = arguments.limit or (SHOWN if as_table else None)
    found = query(store.folder, arguments.sql, limit=None if shown is None else shown + 1, warn=say)
    more, found = shown is not None and found.num_rows > shown, found.slice(0, shown)
    if arguments.json:
        print_json(found.to_pylist())
    elif arguments.csv:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in found.columns), strict=True))
    else:
        columns = [[_cell(value) for value in column.to_pylist()] for column in found.columns]
        print(table(zip(*columns, strict=True), found.column_names))
    if more:
        say(f"… there are more rows than {shown:,}; `--limit N` shows more")
    return exits.DONE


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= 80 else f"{text[:79]}…"
