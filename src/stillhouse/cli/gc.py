"""`stillhouse gc`: remove what no name reaches."""

from __future__ import annotations

import argparse

from . import exits
from .opening import open_store
from .output import print_json, size, table
from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("--dry-run", action="store_true", help="say what would go; remove nothing")
    parser.add_argument("--all", action="store_true", help="also what is younger than an hour")


def run(arguments: argparse.Namespace) -> int:
    from ..core.collect import YOUNG_SECONDS, collect, garbage

    store = open_store(arguments.folder)
    keep = 0.0 if arguments.all else YOUNG_SECONDS
    found = list(garbage(store, keep_seconds=keep)) if arguments.dry_run else collect(store, keep_seconds=keep)
    total = sum(item.size_bytes for item in found)
    if arguments.json:
        items = [{"kind": item.kind, "path": str(item.path), "size_bytes": item.size_bytes} for item in found]
        print_json({"removed": not arguments.dry_run, "items": items, "size_bytes": total})
        return exits.DONE
    if found:
        print(
            table([(item.kind, item.path.name[:12], size(item.size_bytes)) for item in found], ["what", "key", "size"])
        )
    verb = "would be freed" if arguments.dry_run else "freed"
    print(f"{size(total)} {verb}")
    return exits.DONE
