"""Gathering what the page shows: from the comparison, the model's history and the records of the data steps."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifact import Artifact, Rows
from ..core.store import read_record
from ..track.plot import Curve, thinned
from ._page import render

if TYPE_CHECKING:
    from ..core.context import Context
    from .report import ReportPage

MAX_REASONS = 12
PARTICULAR = re.compile(r"\b(?=\w*\d)[0-9a-f]{12,}\b|\b\d+(?:\.\d+)?\b")
"""What tells of one row: an id, a number."""
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
    curves: dict[str, Curve] = {}
    history = folder / "history.jsonl"
    if history.exists():
        for line in history.read_text().splitlines():
            entry = json.loads(line)
            number = entry.pop("step")
            for name, found in entry.items():
                if isinstance(found, int | float) and found == found and abs(found) != float("inf"):
                    curve = curves.setdefault(name, Curve(name, [], []))
                    curve.steps.append(number)
                    curve.values.append(float(found))
    facts = {name: found for name, found in record.get("facts", {}).items() if isinstance(found, str | int | float)}
    finite = {name: None if isinstance(found, float) and found != found else found for name, found in facts.items()}
    thin = {name: thinned(curve, MAX_POINTS) for name, curve in curves.items()}
    return {"curves": {name: list(zip(c.steps, c.values, strict=True)) for name, c in thin.items()}, "facts": finite}


def stage(label: str, rows: Rows) -> dict[str, Any]:
    """One line of the funnel: what came in and out, what was dropped or failed, and why."""
    counts, facts = rows.record.get("counts", {}), rows.record.get("facts", {})
    total = (rows.record.get("calls") or {}).get("total", {})
    return {
        "label": label,
        "tag": rows.record.get("tag", ""),
        "in": None if "stopped" in facts else counts.get("in"),  # of growth that is the number of calls
        "out": len(rows),
        "dropped": counts.get("dropped", 0),
        "failed": counts.get("failed", 0),
        "dropped_why": reasons(row["reason"] for row in rows.dropped()),
        "failed_why": reasons(row["kind"] for row in rows.failed()),
        "asked": total.get("calls", 0) + total.get("cached", 0),
        "stopped": facts.get("stopped"),
    }


def reasons(found: Iterable[Any]) -> list[dict[str, Any]]:
    """The most frequent reasons with their counts; the rest is one line.

    Reasons that differ only in numbers and row ids are one, with `…` in place of what differs.
    """
    groups: dict[str, Counter[str]] = {}
    for reason in found:
        groups.setdefault(PARTICULAR.sub("…", str(reason)), Counter())[str(reason)] += 1
    counts = Counter(
        {next(iter(texts)) if len(texts) == 1 else common: texts.total() for common, texts in groups.items()}
    )
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = [{"reason": reason, "count": count} for reason, count in ranked[:MAX_REASONS]]
    rest = sum(count for _, count in ranked[MAX_REASONS:])
    return [*listed, {"reason": "other reasons", "count": rest}] if rest else listed


def cost(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """Calls, tokens, money and time of every step behind the page, in the order of their making; sums, by model too."""
    labels = {artifact.key: label for label, artifact in reversed(list(artifacts.items()))}
    lines = []
    models: dict[str, dict[str, Any]] = {}
    for key, record in sorted(lineage(artifacts.values()).items(), key=lambda entry: entry[1].get("finished", 0)):
        calls = record.get("calls") or {}
        total = calls.get("total", {})
        for name, of in calls.get("models", {}).items():
            sums = models.setdefault(name, {"name": name, **dict.fromkeys(COUNTED, 0)})
            sums.update({field: sums[field] + of.get(field, 0) for field in COUNTED})
        lines.append(
            {
                "label": labels.get(key) or str(record.get("tag", "")).partition("/")[0],
                "seconds": record["finished"] - record["started"] if {"finished", "started"} <= record.keys() else 0.0,
                **{name: total.get(name, 0) for name in COUNTED},
            }
        )
    asked = {"models": list(models.values()), "steps": lines}
    return {**asked, **{name: sum(line[name] for line in lines) for name in ("seconds", *COUNTED)}}


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
