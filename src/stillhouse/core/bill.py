"""What a step's calls came to over all its attempts: a killed one has paid for its replies too."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import StoreError
from .events import Event
from .journal import Journal
from .store import Store

PAID = (
    "calls",
    "retries",
    "prompt_tokens",
    "reply_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced",
)
FILE = "bill.jsonl"


class BillKeeper:
    """A listener that writes what a step's calls come to beside its unfinished work, as it becomes known."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, event: Event) -> None:
        if event.kind != "call.done" or "key" not in event.data:
            return
        work = self._store.work_folder(event.data["key"])
        if work.is_dir():
            with contextlib.suppress(StoreError):  # a full disk is told by what has to be written
                journal = Journal(work / FILE)
                journal.append({name: event.data.get(name, 0) for name in ("model", *PAID)})
                journal.close()


def open_bill(work: Path) -> None:
    """Cut a torn end of what an earlier attempt left, which would hide what this one adds."""
    journal = Journal(work / FILE)
    journal.keep(list(journal.entries()))


def whole_bill(bill: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """The bill for the record: that of the last attempt, with all that was written down since the first.

    Replies that an earlier attempt paid for and this one found again are calls of the step, not calls it was spared.
    """
    sums: dict[str, dict[str, float]] = {}
    for entry in Journal(work / FILE).entries():
        paid = sums.setdefault(entry["model"], dict.fromkeys(PAID, 0))
        for name in PAID:
            paid[name] += entry.get(name, 0)
    if not sums:
        return dict(bill)
    models = {name: dict(totals) for name, totals in bill.get("calls", {}).get("models", {}).items()}
    for name, paid in sums.items():
        totals = models.setdefault(name, dict.fromkeys((*PAID, "cached", "failed", "repaired"), 0))
        earlier = max(0, paid["calls"] - totals["calls"])
        totals["cached"] = max(0, totals["cached"] - earlier)
        for field in PAID:
            totals[field] = max(totals.get(field, 0), paid[field])
    return _with_total(models)


def summed_bill(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The calls of several results, or of one before and after its rows were tried again, as one bill."""
    models: dict[str, dict[str, Any]] = {}
    for record in records:
        for name, totals in record.get("calls", {}).get("models", {}).items():
            known = models.setdefault(name, {})
            for field, value in totals.items():
                known[field] = known.get(field, 0) + value
    return _with_total(models) if models else {}


def _with_total(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for totals in models.values():
        for field, value in totals.items():
            total[field] = total.get(field, 0) + value
    return {"calls": {"total": total, "models": dict(models)}}
