"""`stillhouse calls`: what the cache of model calls holds."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_store
from .output import fields, print_json, size, table
from .parser import Parser

BY_MODEL = """
SELECT coalesce(request->>'$.by.deployment', request->>'$.by.model', '?') AS model, count(*) AS calls,
       min(made) AS first, max(made) AS last, sum(strlen(request) + strlen(reply)) AS characters
FROM calls GROUP BY ALL ORDER BY calls DESC
"""


def arguments(parser: Parser) -> None:
    parser.in_folder()


def run(arguments: argparse.Namespace) -> int:
    from ..track.query import query

    store = open_store(arguments.folder)
    files = [path for path in (store.folder / "calls-v1").glob("*") if path.is_file()]
    size_bytes = sum(path.stat().st_size for path in files)
    models = query(store.folder, BY_MODEL).to_pylist()
    num_calls = sum(entry["calls"] for entry in models)
    if arguments.json:
        print_json({"calls": num_calls, "size_bytes": size_bytes, "models": models})
        return exits.DONE
    print(fields({"calls": num_calls, "size": size(size_bytes)}))
    if models:
        lines = [
            (e["model"], e["calls"], f"{e['first']:%Y-%m-%d %H:%M}", f"{e['last']:%Y-%m-%d %H:%M}") for e in models
        ]
        print(f"\n{table(lines, ['model', 'calls', 'first', 'last'])}")
    return exits.DONE
