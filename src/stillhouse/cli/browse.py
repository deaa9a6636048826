"""The rows of a table, a page at a time: on a terminal one turns pages, elsewhere they are printed and that is all."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import exits
from .output import fields, print_json, say
from .parser import Parser, UsageError, in_folder, not_negative, positive

if TYPE_CHECKING:
    from ..core.artifact import Artifact, Rows
    from ..core.store import Store
    from ..track.browse import Browser

IN_A_PIPE = 100
"""Rows of a plain text that nobody can turn the pages of."""
KEYS = "Enter: on, b: back, 12: that row in full, /CONDITION: filter (/ alone: all), q: end"


def arguments(parser: Parser) -> None:
    group = parser.add_argument_group("rows, a page at a time")
    group.add_argument("--where", metavar="SQL", help='rows that fulfil a condition: "length(reply) > 200"')
    group.add_argument("--columns", metavar="NAMES", help="these columns, separated by commas")
    group.add_argument("--limit", type=positive, metavar="N", help="rows of a page")
    group.add_argument("--offset", type=not_negative, default=0, metavar="N", help="begin after so many rows")
    group.add_argument("--failed", action="store_true", help="the rows that failed, with what could not be used")
    group.add_argument("--dropped", action="store_true", help="the rows that were not wanted, with the reason")
    group.add_argument("--row", metavar="ID", help="one row in full, with all that it comes from")
    group.add_argument("--jsonl", action="store_true", help="one JSON object a line")


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether the rows are asked for, and not the result as a whole."""
    flags = (arguments.failed, arguments.dropped, arguments.jsonl, arguments.rows == 0, arguments.offset)
    return any(flags) or any(
        value is not None for value in (arguments.where, arguments.columns, arguments.limit, arguments.row)
    )


def run(store: Store, artifact: Artifact, arguments: argparse.Namespace) -> int:
    """Show rows of an artifact as the arguments say."""
    rows = _table(artifact)
    if arguments.row is not None:
        return _one(store, rows, arguments.row, arguments)
    paths = _paths(rows, arguments)
    if not paths:
        say(_none_here(store, rows, "failed" if arguments.failed else "dropped"))
        if arguments.json:
            print_json({"total": 0, "offset": 0, "rows": []})
        return exits.DONE
    from ..track.browse import Browser

    columns = [name.strip() for name in arguments.columns.split(",")] if arguments.columns else None
    with Browser(paths, where=arguments.where, columns=columns) as browser:
        if arguments.jsonl:
            _lines(browser, arguments)
        elif arguments.json:
            page = browser.page(arguments.offset, arguments.limit)
            print_json({"total": page.total, "offset": page.offset, "rows": page.rows})
        elif sys.stdin.isatty() and sys.stdout.isatty():
            _turn(store, rows, paths, browser, arguments)
        else:
            _print(browser, arguments.offset, arguments.limit or IN_A_PIPE, arguments)
            left = browser.total - arguments.offset - (arguments.limit or IN_A_PIPE)
            if left > 0:
                say(f"… and {left:,} more; `--limit` and `--offset` show them, `--jsonl` gives all")
    return exits.DONE


def _table(artifact: Artifact) -> Rows:
    from ..core.artifact import Rows

    outputs = list(artifact.record.get("outputs", {})) if artifact._output is None else []
    if isinstance(artifact, Rows) and not outputs:
        return artifact
    hint = f"Name one with `--output`: {', '.join(outputs)}." if outputs else None
    raise UsageError("this result is no table" if not outputs else "this result has several tables", hint)


def _paths(rows: Rows, arguments: argparse.Namespace) -> list[Path]:
    if arguments.failed and arguments.dropped:
        raise UsageError("`--failed` and `--dropped` do not go together", "Look at one after the other.")
    if arguments.failed or arguments.dropped:
        path = rows.aside_path("failed" if arguments.failed else "dropped")
        return [path] if path.exists() else []
    return rows.paths


def _none_here(store: Store, rows: Rows, aside: str) -> str:
    """That no row of this table failed or was dropped, and where to look for those of the steps before it."""
    from ..curate.funnel import funnel

    what = "failed" if aside == "failed" else "was dropped"
    earlier = [stage for stage in funnel(store, rows) if stage.build_key != rows.key and getattr(stage, aside)]
    if not earlier:
        return f"no row {what}"
    lines = [f"no row {what} in the last step; before it"]
    for stage in earlier:
        step, number = stage.tag.partition("/")[0], getattr(stage, aside)
        lines.append(
            f"  {number:,} in {step}: `stillhouse show {stage.build_key[:12]} --{aside}{in_folder(store.folder)}`"
        )
    return "\n".join(lines)


def _lines(browser: Browser, arguments: argparse.Namespace) -> None:
    """All rows (or `--limit` of them), a thousand read at a time."""
    offset, left = arguments.offset, arguments.limit
    while left is None or left > 0:
        page = browser.page(offset, 1000 if left is None else min(1000, left))
        for row in page.rows:
            print(json.dumps(row, ensure_ascii=False, default=str))
        if not page.rows:
            return
        offset += len(page.rows)
        left = None if left is None else left - len(page.rows)


def _print(browser: Browser, offset: int, limit: int, arguments: argparse.Namespace) -> None:
    from ..rows.preview import preview

    page = browser.page(offset, limit)
    if arguments.full:
        print("\n\n".join(fields(row) for row in page.rows))
        return
    width = max(60, shutil.get_terminal_size().columns)
    columns = browser.columns if arguments.columns else None
    print(preview(page.rows, len(page.rows), width=width, columns=columns))


def _turn(store: Store, rows: Rows, paths: list[Path], browser: Browser, arguments: argparse.Namespace) -> None:
    """Pages on a terminal; what is typed decides which comes next."""
    from ..core.errors import RecipeError
    from ..track.browse import Browser

    size = arguments.limit or max(3, shutil.get_terminal_size().lines - 5)
    offset, shown = arguments.offset, browser
    while True:
        _print(shown, offset, size, arguments)
        last = min(shown.total, offset + size)
        print(f"rows {min(offset + 1, last):,} to {last:,} of {shown.total:,}   {KEYS}")
        typed = _typed()
        while typed is not None and typed.isdigit():
            _number(store, rows, shown, int(typed), arguments)
            typed = _typed()
        if typed is None or typed in ("q", "quit"):
            break
        if typed.startswith("/"):
            try:
                fresh = Browser(paths, where=typed[1:].strip() or None, columns=browser.columns)
            except RecipeError as error:
                say(str(error))
                continue
            if shown is not browser:
                shown.close()
            shown, offset = fresh, 0
        elif typed == "b":
            offset = max(0, offset - size)
        elif offset + size < shown.total:
            offset += size
        else:
            break
    if shown is not browser:
        shown.close()


def _typed() -> str | None:
    print("> ", end="", flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _number(store: Store, rows: Rows, browser: Browser, number: int, arguments: argparse.Namespace) -> None:
    """One row of the table by its number, from 1."""
    if not 1 <= number <= browser.total:
        say(f"there are {browser.total:,} rows")
        return
    row = browser.page(number - 1, 1).rows[0]
    if row.get("_id") and not (arguments.failed or arguments.dropped):
        _one(store, rows, str(row["_id"]), arguments)
    else:
        print(fields(row))


def _one(store: Store, rows: Rows, start: str, arguments: argparse.Namespace) -> int:
    """A row in full, and where it comes from."""
    from ..core._tables import ids_that_start_with, rows_with_ids
    from ..core.errors import RecipeError
    from . import trace

    found = ids_that_start_with(rows.paths, start) if start else set()
    if len(found) != 1:
        what = "no row begins" if not found else f"{len(found)} rows begin"
        raise RecipeError(f"{what} with `{start}` in this table", "`--rows` shows the beginnings of their ids.")
    row = next(rows_with_ids(rows.paths, found))
    if arguments.json:
        print_json({"row": row, "lineage": trace.lineage(store, str(row["_id"]))})
        return exits.DONE
    print(fields({name: value for name, value in row.items() if name not in ("_parents", "_calls")}))
    print()
    for line in trace.lines(store, str(row["_id"]), full=True):
        print(line)
    return exits.DONE
