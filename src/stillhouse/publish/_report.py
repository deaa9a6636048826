"""Gathering what the page shows: from the comparison, the model's history and the records of the data steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifact import Artifact, Rows
from ..core.store import read_record
from ._page import render

if TYPE_CHECKING:
    from ..core.context import Context
    from .report import ReportPage

MAX_REASONS = 12
COUNTED = ("calls", "cached", "prompt_tokens", "reply_tokens", "unpriced", "cost_usd")
MAX_POINTS = 400
"""Points of a curve; more than a phone has pixels would only make the page heavy."""


def write_report(step: ReportPage, context: Context) -> None:
    """Write `report.html` and `report.json` into the context's folder."""
    compared = context.get(step.comparison)
    model = None if step.model is None else context.get(step.model)
    stages = {label: context.get(rows) for label, rows in step.funnel.items()}
    artifacts: dict[str, Artifact] = {
        **stages,
        **({} if model is None else {"training": model}),
        "comparison": compared,
    }
    value = {
        "kind": "page",
        "format": 1,
        "title": step.title,
        "description": step.description,
        "comparison": compared.value,
        "training": None if model is None else training(model.path, model.record),
        "funnel": [stage(label, rows) for label, rows in stages.items()],
        "cost": cost(artifacts),
        "provenance": [provenance(label, artifact) for label, artifact in artifacts.items()],
        "environment": compared.record.get("environment", {}),
    }
    (context.folder / "report.json").write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))
    (context.folder / "report.html").write_text(render(value, step.examples), encoding="utf-8")
    text = compared.data / "report.txt"
    if text.exists():
        (context.folder / "report.txt").write_text(text.read_text())


def training(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The curves that training left in the model's folder, and the facts of its record."""
    curves: dict[str, list[tuple[int, float]]] = {}
    history = folder / "history.jsonl"
    if history.exists():
        for line in history.read_text().splitlines():
            entry = json.loads(line)
            number = entry.pop("step")
            for name, found in entry.items():
                if isinstance(found, int | float) and found == found and abs(found) != float("inf"):
                    curves.setdefault(name, []).append((number, float(found)))
    facts = {name: found for name, found in record.get("facts", {}).items() if isinstance(found, str | int | float)}
    finite = {name: None if isinstance(found, float) and found != found else found for name, found in facts.items()}
    return {"curves": {name: thin(points) for name, points in curves.items()}, "facts": finite}


def thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MAX_POINTS`: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= MAX_POINTS:
        return points
    kept = {points[0], points[-1]}
    stretches = MAX_POINTS // 2
    for index in range(stretches):
        part = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        if part:
            kept |= {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
    return sorted(kept)


def stage(label: str, rows: Rows) -> dict[str, Any]:
    """One line of the funnel: what came in and out, what was dropped or failed, and why."""
    counts = rows.record.get("counts", {})
    total = (rows.record.get("calls") or {}).get("total", {})
    return {
        "label": label,
        "tag": rows.record.get("tag", ""),
        "in": counts.get("in"),
        "out": len(rows),
        "dropped": counts.get("dropped", 0),
        "failed": counts.get("failed", 0),
        "dropped_why": reasons(row["reason"] for row in rows.dropped()),
        "failed_why": reasons(row["kind"] for row in rows.failed()),
        "asked": total.get("calls", 0) + total.get("cached", 0),
        "stopped": rows.record.get("facts", {}).get("stopped"),
    }


def reasons(found: Iterable[Any]) -> list[dict[str, Any]]:
    """The most frequent reasons with their counts; the rest is one line."""
    counts = Counter(str(reason) for reason in found)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = [{"reason": reason, "count": count} for reason, count in ranked[:MAX_REASONS]]
    rest = sum(count for _, count in ranked[MAX_REASONS:])
    return [*listed, {"reason": "other reasons", "count": rest}] if rest else listed


def cost(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """Calls, tokens, money and time of every step behind the page, in the order of their making, and the sums."""
    labels = {artifact.key: label for label, artifact in reversed(list(artifacts.items()))}
    lines = []
    for key, record in sorted(lineage(artifacts.values()).items(), key=lambda entry: entry[1].get("finished", 0)):
        total = (record.get("calls") or {}).get("total", {})
        lines.append(
            {
                "label": labels.get(key) or str(record.get("tag", "")).partition("/")[0],
                "seconds": record["finished"] - record["started"] if {"finished", "started"} <= record.keys() else 0.0,
                **{name: total.get(name, 0) for name in COUNTED},
            }
        )
    return {"steps": lines, **{name: sum(line[name] for line in lines) for name in ("seconds", *COUNTED)}}


def lineage(artifacts: Iterable[Artifact]) -> dict[str, Mapping[str, Any]]:
    """The records of these artifacts and of all that they were made from, as far as the store still has them."""
    found: dict[str, Mapping[str, Any]] = {}
    pending = [(artifact.folder, artifact.record) for artifact in artifacts]
    while pending:
        folder, record = pending.pop()
        if folder.name in found:
            continue
        found[folder.name] = record
        for entry in record.get("inputs", ()):
            key = entry["build_key"]
            source = folder.parent.parent / key[:2] / key
            known = read_record(source)
            if known is not None:
                pending.append((source, known))
    return found


def provenance(label: str, artifact: Artifact) -> dict[str, str]:
    return {"label": label, "tag": str(artifact.record.get("tag", "")), "key": artifact.key, "digest": artifact.digest}
