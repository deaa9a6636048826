"""`stillhouse show`: a result, how it came to be, and its first rows."""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

from ..track.progress import duration
from . import browse, exits
from .opening import open_store
from .output import fields, print_json, size, table
from .parser import Parser, positive

if TYPE_CHECKING:
    from ..core.artifact import Artifact
    from ..core.store import Store
    from ..curate.funnel import Stage


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("name", metavar="NAME", nargs="?", help="a name or key; without one, all names are listed")
    parser.add_argument("--output", metavar="OUTPUT", help="one output of a result that has several")
    parser.add_argument(
        "--rows",
        type=positive,
        nargs="?",
        const=0,
        metavar="N",
        help="how many rows to show (default: 5); without a number, the rows alone, a page at a time",
    )
    parser.add_argument("--full", action="store_true", help="show rows one below the other, uncut")
    parser.add_argument("--record", action="store_true", help="show the whole record")
    browse.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from .records import find

    store = open_store(arguments.folder)
    if arguments.name is None:
        return _names(store, as_json=arguments.json)
    artifact = find(store, arguments.name, arguments.output)
    if browse.wanted(arguments):
        return browse.run(store, artifact, arguments)
    shown = _description(store, artifact, arguments)
    if arguments.json:
        print_json(shown)
    elif arguments.record:
        print_json(dict(artifact.record))
    else:
        _print(artifact, shown, arguments)
    return exits.DONE


def _names(store: Store, *, as_json: bool) -> int:
    from ..core.names import Names
    from ..core.store import read_record

    found = []
    for entry in Names(store).all():
        record = read_record(store.artifact_folder(entry.build_key)) or {}
        when = dt.datetime.fromtimestamp(entry.history[-1]["time"]).strftime("%Y-%m-%d %H:%M")
        counts = record.get("counts", {})
        found.append(
            {
                "name": entry.name,
                "kind": record.get("kind", "(gone)"),
                "rows": counts.get("out"),
                "made": when,
                "key": entry.build_key[:12],
                "pinned": bool(entry.pinned),
            }
        )
    if as_json:
        print_json(found)
    elif found:
        print(table([list(entry.values()) for entry in found], list(found[0])))
    else:
        print(f"no names in `{store.folder}` yet")
    return exits.DONE


def _description(store: Store, artifact: Artifact, arguments: argparse.Namespace) -> dict[str, Any]:
    from ..core.artifact import Report, Rows
    from ..curate.funnel import funnel

    record = artifact.record
    shown: dict[str, Any] = {
        "step": record["tag"],
        "kind": artifact.kind,
        "key": artifact.key,
        "digest": artifact.digest,
        "path": str(artifact.data),
        "made": dt.datetime.fromtimestamp(record["finished"]).isoformat(timespec="seconds"),
        "seconds": round(record["finished"] - record["started"], 3),
        "size_bytes": sum(entry["size"] for entry in record["files"]),
        "counts": record.get("counts"),
        "outputs": record.get("outputs"),
        "calls": record.get("calls"),
        "facts": record["facts"],
        "definition": record["definition"],
        "inputs": record["inputs"],
        "funnel": [_stage(stage) for stage in funnel(store, artifact)],
    }
    if isinstance(artifact, Rows) and (arguments.output or not record.get("outputs")):
        shown["columns"] = artifact.columns
        shown["rows"] = artifact.head(arguments.rows or 5)
    if isinstance(artifact, Report):
        shown["report"] = artifact.value
    return shown


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "step": stage.tag,
        "key": stage.build_key,
        "in": stage.rows_in,
        "out": stage.out,
        "dropped": stage.dropped,
        "failed": stage.failed,
        "reasons": dict(stage.reasons),
        "faults": dict(stage.faults),
    }


def _print(artifact: Artifact, shown: dict[str, Any], arguments: argparse.Namespace) -> None:
    from ..core.artifact import Report
    from ..rows.preview import preview

    if isinstance(artifact, Report):
        print(artifact, end="\n\n")
    outputs = {name: entry["out"] for name, entry in (shown["outputs"] or {}).items()}
    head = {name: shown[name] for name in ("step", "kind", "key", "path", "made")}
    head["took"] = duration(shown["seconds"])
    head["size"] = size(shown["size_bytes"])
    head["outputs"] = ", ".join(f"{name} {number:,}" for name, number in outputs.items()) or None
    head |= {name: value for name, value in shown["facts"].items() if isinstance(value, str | int | float)}
    print(fields(head))
    if shown["funnel"]:
        print(f"\n{funnel_table(shown['funnel'])}")
    if arguments.full:
        for row in shown.get("rows", []):
            print(f"\n{fields(row)}")
    elif "rows" in shown:
        width = max(60, shutil.get_terminal_size().columns)
        print(f"\n{preview(shown['rows'], len(shown['rows']), width=width)}")


def funnel_table(entries: list[dict[str, Any]]) -> str:
    """What became of the rows at each step."""
    lines = []
    for entry in entries:
        reasons = {**entry["reasons"], **entry["faults"]}
        told = ", ".join(f"{reason} ({number:,})" for reason, number in reasons.items())
        numbers = [entry[name] for name in ("in", "out", "dropped", "failed")]
        lines.append([entry["step"].partition("/")[0], *numbers, told])
    return table(lines, ["step", "in", "out", "dropped", "failed", "why"])
