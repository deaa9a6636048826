"""`stillhouse export`: rows as a file for other programs."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_store
from .output import print_json
from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("name", metavar="NAME", help="a name or key")
    parser.add_argument("file", metavar="FILE", help="where to: .jsonl, .csv or .parquet")
    parser.add_argument("--output", metavar="OUTPUT", help="one output of a result that has several")
    parser.add_argument("--lineage", action="store_true", help="also row ids, parents and calls")


def run(arguments: argparse.Namespace) -> int:
    from ..core.artifact import Rows
    from ..core.errors import RecipeError
    from ..rows.export import write_rows
    from .records import find

    artifact = find(open_store(arguments.folder), arguments.name, arguments.output)
    outputs = list(artifact.record.get("outputs", {}))
    if outputs and arguments.output is None:
        raise RecipeError(
            f"`{arguments.name}` has several outputs: {', '.join(outputs)}", "Choose one with `--output`."
        )
    if not isinstance(artifact, Rows):
        hint = f"It lies in `{artifact.data}`."
        raise RecipeError(f"`{arguments.name}` is of the kind {artifact.kind}, and only rows can be exported", hint)
    path = write_rows(artifact, arguments.file, lineage=arguments.lineage)
    if arguments.json:
        print_json({"path": str(path), "rows": len(artifact)})
    else:
        print(f"{len(artifact):,} rows in {path}")
    return exits.DONE
