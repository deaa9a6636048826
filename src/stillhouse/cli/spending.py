"""`stillhouse money`: what was spent from a session folder, by day, model and step."""

from __future__ import annotations

import argparse
import datetime as dt
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import exits
from .calls import _title, _usd, moment
from .opening import open_store
from .output import print_json, say, table
from .parser import Parser

if TYPE_CHECKING:
    from ..calls.archive import Spending
    from ..core.store import Store

_NUMBERS = ("prompt_tokens", "cached_tokens", "reply_tokens", "reasoning_tokens")


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument(
        "--by",
        action="append",
        choices=["day", "model", "step"],
        help="what the sums are of; may be given several times (default: model)",
    )
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="7d, or a date such as 2026-05-01: whole days (UTC)"
    )


def run(arguments: argparse.Namespace) -> int:
    from ..calls.archive import Archive

    store = open_store(arguments.folder)
    with Archive(store.folder / "calls-v1") as archive:
        entries = archive.spending()
    if arguments.since is not None:
        first = _day(arguments.since)
        entries = [entry for entry in entries if entry.day >= first]
    by = list(dict.fromkeys(arguments.by or ["model"]))
    sums = _sums(store, entries, by)
    total = _summed(entries)
    today = _summed([entry for entry in entries if entry.day == _day(time.time())])
    if arguments.json:
        print_json({"total": total, "today": today, "sums": sums})
        return exits.DONE
    if not entries:
        say("nothing was asked yet")
        return exits.DONE
    header = [*by, "calls", "in batch jobs", "tokens in", "cached", "out", "reasoning", "cost", "no price"]
    print(table([_cells(entry, by) for entry in sums], header))
    print(f"\n{_usd(total['cost_usd'])} in all, {_usd(today['cost_usd'])} of it today (UTC)")
    if total["unpriced"]:
        names = sorted({entry.model for entry in entries if entry.unpriced})
        remedy = (
            "Give their prices: `Session(prices={name: Price(prompt=…, reply=…)})`, `session: prices:` in a recipe."
        )
        say(f"{total['unpriced']:,} calls are not in it, as no price is known of {', '.join(names)}.\n  {remedy}")
    return exits.DONE


def _sums(store: Store, entries: Sequence[Spending], by: Sequence[str]) -> list[dict[str, Any]]:
    from ..core.mapped_ahead import build_key_of

    groups: dict[tuple[str, ...], list[Spending]] = {}
    if "step" in by:
        known = {key: build_key_of(store, key) for key in {entry.step for entry in entries}}
        entries = [entry._replace(step=known[entry.step]) for entry in entries]
    for entry in entries:
        groups.setdefault(tuple(getattr(entry, name) for name in by), []).append(entry)
    found = []
    for names, members in groups.items():
        facts: dict[str, Any] = dict(zip(by, names, strict=True))
        if "step" in facts:
            facts |= {"made_for": facts["step"], "step": _title(store, facts["step"])}
        found.append({**facts, **_summed(members)})
    return found if "day" in by else sorted(found, key=lambda entry: -entry["cost_usd"])


def _summed(entries: Sequence[Spending]) -> dict[str, Any]:
    return {
        "calls": sum(entry.calls for entry in entries),
        "batch": sum(entry.calls for entry in entries if entry.batch),
        **{name: sum(getattr(entry.usage, name) for entry in entries) for name in _NUMBERS},
        "cost_usd": sum(entry.cost_usd for entry in entries),
        "unpriced": sum(entry.unpriced for entry in entries),
    }


def _cells(entry: dict[str, Any], by: Sequence[str]) -> list[Any]:
    names = [entry[name] or "(by no step)" for name in by]
    numbers = [entry[name] for name in ("calls", "batch", *_NUMBERS)]
    return [*names, *numbers, _usd(entry["cost_usd"]), entry["unpriced"] or None]


def _day(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()
