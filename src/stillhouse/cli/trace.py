"""`stillhouse trace`: from a row back to its seed, forward to what it shaped."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import exits
from .opening import open_store
from .output import print_json, visible
from .parser import Parser

if TYPE_CHECKING:
    from ..core.lineage import Ancestor
    from ..core.store import Store

SHOWN = 300


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("row", metavar="ROW_ID", help="a row id, or its first digits (at least six)")
    parser.add_argument("--full", action="store_true", help="show contents and calls uncut")


def run(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.folder)
    if arguments.json:
        print_json(lineage(store, arguments.row))
        return exits.DONE
    for line in lines(store, arguments.row, full=arguments.full):
        print(line)
    return exits.DONE


def lineage(store: Store, row: str) -> dict[str, Any]:
    """A row with all that is behind it and what was made from it, as JSON values."""
    from ..core.lineage import trace

    found = trace(store, row)
    calls = _calls(store, [found.origin, *found.children])
    return {
        "row": _as_dict(found.origin, calls),
        "children": [_as_dict(child, calls) for child in found.children],
        "used_by": list(found.used_by),
    }


def lines(store: Store, row: str, *, full: bool) -> Iterator[str]:
    """The same as lines of text."""
    from ..core.lineage import trace

    found = trace(store, row)
    calls = _calls(store, [found.origin, *found.children])
    yield from _lines(found.origin, calls, 0, full)
    if found.children:
        yield "\nmade from it:"
        for child in found.children:
            yield next(_lines(child, {}, 1, full))
    if found.used_by:
        yield "\nused by:"
        for entry in found.used_by:
            yield f"  {entry['kind']} of {entry['tag'].partition('/')[0]} ({entry['build_key'][:12]})"


def _calls(store: Store, found: list[Ancestor]) -> dict[str, dict[str, Any]]:
    """What was asked and answered, by key, for the calls on the way; those pruned from the cache are left out."""
    keys = {key for ancestor in found for each in _family(ancestor) for key in each.calls}
    if not keys:
        return {}
    from ..track.query import query

    listed = ", ".join(f"'{key}'" for key in sorted(keys) if key.isalnum())
    rows = query(store.folder, f"SELECT key, request, reply FROM calls WHERE key IN ({listed})").to_pylist()
    return {row["key"]: row for row in rows}


def _family(ancestor: Ancestor) -> Iterator[Ancestor]:
    yield ancestor
    for parent in ancestor.parents:
        yield from _family(parent)


def _as_dict(ancestor: Ancestor, calls: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": ancestor.row["_id"],
        "step": ancestor.tag,
        "key": ancestor.build_key,
        "content": {name: value for name, value in ancestor.row.items() if name != "_id"},
        "calls": [calls.get(key, {"key": key}) for key in ancestor.calls],
        "parents": [_as_dict(parent, calls) for parent in ancestor.parents],
    }


def _lines(ancestor: Ancestor, calls: dict[str, dict[str, Any]], depth: int, full: bool) -> Iterator[str]:
    indent = "  " * depth
    made = f"made by {ancestor.tag.partition('/')[0]} ({ancestor.build_key[:12]})" if ancestor.build_key else "gone"
    content = {name: value for name, value in ancestor.row.items() if name != "_id"}
    yield f"{indent}{ancestor.row['_id']}  {made}\n{indent}  {_cut(content, full)}"
    for key in ancestor.calls:
        call = calls.get(key)
        yield f"{indent}  call {key[:12]}" + (
            "" if call is None else f"\n{indent}    asked    {_cut(call['request'], full)}"
        )
        if call is not None:
            yield f"{indent}    answered {_cut(call['reply'], full)}"
    for parent in ancestor.parents:
        yield f"{indent}  from"
        yield from _lines(parent, calls, depth + 2, full)


def _cut(value: Any, full: bool) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = visible(text)
    return text if full or len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
