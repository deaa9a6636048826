"""`stillhouse calls`: look at the kept model calls, take them along, make them fewer."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import exits
from .opening import open_store
from .output import fields, print_json, say, size, table
from .parser import FOLDER, Parser, UsageError, positive

if TYPE_CHECKING:
    from ..calls.archive import Archive, Call, Selection
    from ..core.store import Store

SHOWN = 50
_ENDS = ("cut", "refused", "empty", "ok")


class _Action(Parser):
    """One of the things to do; its options may stand before or after the word."""

    def __init__(self, **settings: Any) -> None:
        argparse.ArgumentParser.__init__(self, allow_abbrev=False, **settings)
        for name, text in (("--json", "print JSON"), ("--debug", "show the traceback of an error")):
            self.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)
        text = f"the session folder (default: {FOLDER})"
        self.add_argument("--folder", metavar="FOLDER", default=argparse.SUPPRESS, help=text)


def arguments(parser: Parser) -> None:
    parser.in_folder()
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=_Action)
    actions.add_parser(
        "stats", help="sums by model: calls, tokens, money, bytes, how long they took (also without ACTION)"
    )
    listing = actions.add_parser("list", help="the calls, newest first; `--json`: one object a line")
    _selection(listing)
    listing.add_argument("--limit", type=positive, metavar="N", help=f"calls to print (default: {SHOWN}; all as JSON)")
    shown = actions.add_parser("show", help="one call: what was asked and answered, and the rows it made")
    shown.add_argument("key", metavar="KEY", help="a call's key, or its first digits (at least six)")
    export = actions.add_parser("export", help="write calls to a Parquet or JSONL file")
    export.add_argument("file", metavar="FILE", help="ends in .parquet or .jsonl")
    _selection(export)
    text = "take out `email`, `phone`, `key`, or what a regular expression finds; may be given several times"
    export.add_argument("--redact", action="append", default=[], metavar="WHAT", help=text)
    prune = actions.add_parser("prune", help="remove calls; only says what would go unless `--yes` is given")
    prune.add_argument("--older-than", type=age, metavar="AGE", help="90d, 12h: made longer ago")
    prune.add_argument("--model", metavar="PART", help="of models whose name holds this")
    prune.add_argument("--unreferenced", action="store_true", help="that no row or other result came from")
    text = "2GB: the oldest unreferenced ones, until the rest fits"
    prune.add_argument("--max-size", type=num_bytes, metavar="SIZE", help=text)
    prune.add_argument("--all", action="store_true", help="also what is younger than an hour")
    prune.add_argument("--yes", action="store_true", help="remove them")


def _selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which")
    group.add_argument("--model", metavar="PART", help="models whose name holds this")
    group.add_argument("--name", metavar="NAME", help="made for the result of this name, or a step whose tag holds it")
    group.add_argument("--since", type=moment, metavar="WHEN", help="30m, 12h, 7d, or a date such as 2026-05-01 (UTC)")
    group.add_argument("--until", type=moment, metavar="WHEN", help="made before")
    group.add_argument("--text", metavar="TEXT", help="holds this in what was asked or answered")
    text = f"ended so: {', '.join(_ENDS)}; `failed` lists attempts that were not answered"
    group.add_argument("--ended", action="append", choices=[*_ENDS, "failed"], default=[], help=text)


def run(arguments: argparse.Namespace) -> int:
    from ..calls.archive import Archive

    store = open_store(arguments.folder)
    action = arguments.action or "stats"
    if action == "prune":
        return _prune(store, arguments)
    with Archive(store.folder / "calls-v1") as archive:
        code = {"stats": _stats, "list": _list, "show": _show, "export": _export}[action](store, archive, arguments)
        if archive.num_damaged:
            say(f"{archive.num_damaged:,} damaged calls were passed over; they are asked again when they are needed")
    return code


def _stats(store: Store, archive: Archive, arguments: argparse.Namespace) -> int:
    del store
    models = archive.sums()
    num_calls = sum(entry["calls"] for entry in models)
    size_bytes = archive.size_bytes if archive.path.exists() else 0
    if arguments.json:
        for entry in models:
            entry |= {"first": _date(entry["first"]), "last": _date(entry["last"])}
        print_json({"calls": num_calls, "size_bytes": size_bytes, "models": models})
        return exits.DONE
    print(fields({"calls": num_calls, "size": size(size_bytes)}))
    if models:
        header = [
            "model",
            "calls",
            "tokens in",
            "cached",
            "out",
            "reasoning",
            "cost",
            "size",
            "p50",
            "p90",
            "p99",
            "last",
        ]
        print(f"\n{table(map(_sum_cells, models), header)}")
    return exits.DONE


def _sum_cells(entry: dict[str, Any]) -> list[Any]:
    tokens = [entry[f"{kind}_tokens"] for kind in ("prompt", "cached", "reply", "reasoning")]
    seconds = [
        f"{entry['seconds'][name]:.2f} s" if name in entry["seconds"] else None for name in ("p50", "p90", "p99")
    ]
    last = _date(entry["last"])[:16].replace("T", " ")
    return [entry["model"], entry["calls"], *tokens, _usd(entry["cost_usd"]), size(entry["size_bytes"]), *seconds, last]


def _list(store: Store, archive: Archive, arguments: argparse.Namespace) -> int:
    chosen = _chosen(store, arguments)
    if "failed" in arguments.ended:
        return _list_failed(archive, chosen, arguments)
    limit = arguments.limit or (None if arguments.json else SHOWN)
    calls = islice(archive.calls(chosen, newest_first=True), limit)
    if arguments.json:
        import orjson

        for call in calls:
            print(orjson.dumps(_as_dict(call)).decode())
        return exits.DONE
    lines = [_cells(call) for call in calls]
    if lines:
        print(table(lines, ["made", "call", "model", "tokens", "cost", "seconds", "ended", "answered"]))
    if len(lines) == limit:
        say(f"… there may be more than {limit:,}; `--limit N` shows more")
    elif not lines:
        say("no call is kept that fits")
    return exits.DONE


def _list_failed(archive: Archive, chosen: Selection, arguments: argparse.Namespace) -> int:
    limit = arguments.limit or (None if arguments.json else SHOWN)
    found = islice(archive.troubles(chosen), limit)
    if arguments.json:
        import orjson

        for trouble in found:
            print(orjson.dumps({**trouble._asdict(), "made": _date(trouble.made)}).decode())
        return exits.DONE
    lines = [(_when(t.made), t.key[:12], t.model, t.cause, f"{t.seconds:.2f}", _short(t.message)) for t in found]
    if lines:
        print(table(lines, ["made", "call", "model", "cause", "seconds", "message"]))
    else:
        say("no attempt failed that fits")
    return exits.DONE


def _show(store: Store, archive: Archive, arguments: argparse.Namespace) -> int:
    import json

    call = archive.one(arguments.key)
    failed = [trouble for trouble in archive.troubles() if trouble.key == call.key][:20]
    rows = _rows_of(store, call.key)
    request = json.loads(call.request or b"null") or {}
    if arguments.json:
        attempts = [{**trouble._asdict(), "made": _date(trouble.made)} for trouble in failed]
        print_json({**_as_dict(call), "request": request, "failed_attempts": attempts, "rows": rows})
        return exits.DONE
    facts = {
        "call": call.key,
        "made": _when(call.made),
        "model": call.model,
        "ended": call.end(),
        "tokens": _tokens(call),
        "cost": _usd(call.cost_usd) + (" (batch)" if call.batch else ""),
        "seconds": f"{call.seconds:.2f}",
        "made for": _title(store, call.step),
        "settings": json.dumps(settings, ensure_ascii=False) if (settings := _settings(request)) else None,
        "sample": request.get("sample") or None,
        "schema": json.dumps(request["schema"], ensure_ascii=False) if request.get("schema") else None,
    }
    print(fields(facts))
    for message in request.get("messages", [{"role": "text", "content": request.get("text", "")}]):
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
        print(f"\n── {message.get('role', '?')}\n{text}")
    print(f"\n── reply\n{_reply_text(call)}")
    for trouble in failed:
        print(f"\nfailed before, {_when(trouble.made)}: {trouble.cause}: {trouble.message}")
    if rows:
        print(f"\n{len(rows):,} rows came from it:")
        print(
            table([(row["id"], row["step"], row["artifact"][:12]) for row in rows[:SHOWN]], ["row", "step", "result"])
        )
    return exits.DONE


def _rows_of(store: Store, key: str) -> list[dict[str, Any]]:
    """The rows that name the call, in the results that hold them."""
    from ..track.query import query

    sql = f"SELECT id, step, artifact FROM rows WHERE list_contains(calls, '{key}') ORDER BY step, id LIMIT 1000"
    found: list[dict[str, Any]] = query(store.folder, sql, warn=say).to_pylist()
    return found


def _export(store: Store, archive: Archive, arguments: argparse.Namespace) -> int:
    from ..calls.redact import Redactor

    path = Path(arguments.file)
    if path.suffix not in (".parquet", ".jsonl"):
        raise UsageError(f"`{path}` ends neither in .parquet nor in .jsonl")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder `{path.parent}`")
    if "failed" in arguments.ended:
        raise UsageError("attempts that failed are not exported", "`stillhouse query` reads them: the view `attempts`.")
    redactor = Redactor(arguments.redact)
    rows = (_redacted(call, redactor) for call in archive.calls(_chosen(store, arguments)))
    partial = path.with_name(f".{path.name}.part")
    try:
        number = _write_parquet(partial, rows) if path.suffix == ".parquet" else _write_jsonl(partial, rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if arguments.json:
        print_json({"file": str(path), "calls": number, "redacted": redactor.num_found})
    else:
        taken = f", {redactor.num_found:,} places redacted" if arguments.redact else ""
        print(f"{number:,} calls written to {path} ({size(path.stat().st_size)}){taken}")
    return exits.DONE


def _redacted(call: Call, redactor: Any) -> dict[str, Any]:
    """A call as it is exported: the request and what came over the wire as JSON texts."""
    found = _as_dict(call)
    del found["asked"]
    found["text"] = redactor.text(found["text"])
    for name, data in (("request", call.request), ("reply", call.wire)):
        text = data.decode(errors="replace")
        try:
            import orjson

            text = orjson.dumps(redactor.value(orjson.loads(data))).decode()
        except ValueError:
            text = redactor.text(text)
        found[name] = text
    return found


def _write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    import orjson

    number = 0
    with open(path, "wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")
            number += 1
    return number


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = ("prompt_tokens", "reply_tokens", "cached_tokens", "reasoning_tokens")
    texts = ("key", "made", "model", "made_for", "ended", "text", "form", "request", "reply")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            ("batch", pa.bool_()),
            ("seconds", pa.float64()),
            ("cost_usd", pa.float64()),
            *((name, pa.int64()) for name in numbers),
        ]
    )
    number = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while part := list(islice(rows, 2000)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
            number += len(part)
    return number


def _prune(store: Store, arguments: argparse.Namespace) -> int:
    from ..calls.pruning import Wanted, prune
    from ..core.collect import YOUNG_SECONDS

    if arguments.older_than is arguments.model is arguments.max_size is None and not arguments.unreferenced:
        hint = "Say it with `--older-than`, `--model`, `--unreferenced` or `--max-size`; several are met together."
        raise UsageError("nothing says which calls should go", hint)
    wanted = Wanted(arguments.older_than, arguments.model, arguments.unreferenced, arguments.max_size)
    keep = 0.0 if arguments.all else YOUNG_SECONDS
    found = prune(store, wanted, keep_seconds=keep, dry_run=not arguments.yes)
    calls, num = sum(entry.calls for entry in found), sum(entry.size_bytes for entry in found)
    if arguments.json:
        models = [entry._asdict() for entry in found]
        print_json({"removed": arguments.yes, "calls": calls, "size_bytes": num, "models": models})
        return exits.DONE
    if found:
        lines = [(entry.model, entry.calls, entry.referenced, size(entry.size_bytes)) for entry in found]
        print(table(lines, ["model", "calls", "named by results", "size"]))
    verb = "removed" if arguments.yes else "would be removed; `--yes` removes them"
    print(f"{calls:,} calls ({size(num)}) {verb}")
    return exits.DONE


def _chosen(store: Store, arguments: argparse.Namespace) -> Selection:
    from ..calls.archive import Selection

    steps = None if arguments.name is None else _steps_named(store, arguments.name)
    ends = tuple(end for end in arguments.ended if end != "failed")
    return Selection(arguments.model, steps, arguments.since, arguments.until, arguments.text, ends)


def _steps_named(store: Store, name: str) -> list[str]:
    """What calls of the results behind a name are known by, or of the steps whose tag holds it, finished or not."""
    from ..core.mapped_ahead import asked_as
    from ..core.names import Names
    from .records import ancestry

    found = {each.name: each.build_key for each in Names(store).all()}
    if name in found:
        return sorted(asked_as(ancestry(store, found[name])))
    keys = asked_as(record for record in store.records() if name in record["tag"])
    for recipe_key, entry in store.entries():
        if name in str(entry.get("tag", "")):
            keys |= {recipe_key, entry["build_key"]}
    if not keys:
        raise UsageError(f"no result and no step is called `{name}`", "`stillhouse show` lists the names.")
    return sorted(keys)


def _as_dict(call: Call) -> dict[str, Any]:
    return {
        "key": call.key,
        "made": _date(call.made),
        "model": call.model,
        "made_for": call.step,
        "batch": call.batch,
        "ended": call.end(),
        "seconds": call.seconds,
        "cost_usd": call.cost_usd,
        **{name: getattr(call.usage, name) for name in _TOKENS},
        "asked": _asked(call),
        "text": _reply_text(call),
        "form": call.form,
    }


_TOKENS = ("prompt_tokens", "reply_tokens", "cached_tokens", "reasoning_tokens")


def _cells(call: Call) -> tuple[Any, ...]:
    seconds = "batch" if call.batch else f"{call.seconds:.2f}"
    words = _short(_reply_text(call))
    return (_when(call.made), call.key[:12], call.model, _tokens(call), _usd(call.cost_usd), seconds, call.end(), words)


def _settings(request: dict[str, Any]) -> Any:  # JSON of any shape
    """How it was asked: the sampling, or what shapes a vector."""
    return request.get("sampling") or request.get("embed")


def _asked(call: Call) -> str:
    """The last message, as far as it is text; of a vector, the text."""
    import orjson

    try:
        request = orjson.loads(call.request)
        content = request["text"] if "text" in request else request["messages"][-1]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _reply_text(call: Call) -> str:
    from ..calls.reply import Garbled

    try:
        reply = call.reply()
    except Garbled:
        return call.wire.decode(errors="replace")
    return reply.refusal or reply.text


def _tokens(call: Call) -> str:
    return f"{call.usage.prompt_tokens:,} + {call.usage.reply_tokens:,}"


def _title(store: Store, step: str) -> str | None:
    """What a call was made for: the step's tag where its result is there."""
    from ..core.mapped_ahead import build_key_of
    from ..core.store import read_record

    if not step:
        return None
    step = build_key_of(store, step)
    record = read_record(store.artifact_folder(step))
    return f"{record['tag'].partition('/')[0]} ({step[:12]})" if record else step[:12]


def _usd(value: float | None) -> str:
    if value is None:
        return "–"
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _when(seconds: float) -> str:
    return _date(seconds)[:19].replace("T", " ")


def _date(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


def age(text: str) -> float:
    """Seconds of `30m`, `12h`, `7d`, for `type=`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 30m, 12h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: str) -> float:
    """Seconds since 1970 of an age, or of a date."""
    try:
        return time.time() - age(text)
    except argparse.ArgumentTypeError:
        try:
            date = dt.datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither an age (12h, 7d) nor a date (2026-05-01)") from None
        return (date if date.tzinfo else date.replace(tzinfo=dt.UTC)).timestamp()


def num_bytes(text: str) -> int:
    """Bytes of `500MB` or `2GB`, for `type=`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower())
    if found is None or found[2] not in _SIZES:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500MB or 2GB")
    return int(float(found[1]) * _SIZES[found[2]])
