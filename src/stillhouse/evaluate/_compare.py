"""The comparison: scores, intervals, paired differences, flips and slices as one plain value."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..core.errors import RecipeError
from ..measure.intervals import bootstrap_mean, wilson
from ..measure.paired import Paired, compare_pairs, flips, holm
from ..measure.score import Metric
from ._items import Items, Reply, add_predictions, as_text, load_items, shown
from .table import text_table

if TYPE_CHECKING:
    from ..core.context import Context
    from .compare import Compare

Scores = NDArray[np.float64]
MAX_LISTED = 200
"""Flips that `report.json` shows with their texts; `items.parquet` holds them all."""
MAX_VALUES = 50
"""Values that a slice column may have."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one model by one metric, a value an item: nan where the metric is undefined."""

    values: Scores
    details: list[str | None]


def compare(step: Compare, context: Context) -> None:
    """Write the report of `step` into the context's folder."""
    metrics = [metric for metric in step.metrics if isinstance(metric, Metric)]
    # A metric of one's own need not name a column.
    items, places = load_items(context.get(step.on), step.input_column, getattr(metrics[0], "column", "output"))
    if not items.rows:
        raise RecipeError("there are no rows to compare on", "Look at what `on` keeps: `stillhouse show`.")
    for name, predictions in step.models.items():
        add_predictions(items, places, name, context.get(predictions))
        context.check_stop()
    scored = {name: {metric.name: score_all(metric, items, name) for metric in metrics} for name in step.models}
    report = findings(step, items, scored)
    (context.folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False))
    (context.folder / "report.txt").write_text(text_table(report) + "\n")
    pq.write_table(item_table(step, items, scored), context.folder / "items.parquet", compression="zstd")
    scores = {name: {metric: entry["score"] for metric, entry in of.items()} for name, of in report["scores"].items()}
    context.note(num_items=len(items.rows), scores=scores)
    context.log(
        0, **{f"{name}/{metric}": s for name, of in scores.items() for metric, s in of.items() if s is not None}
    )


def score_all(metric: Metric, items: Items, name: str) -> Scored:
    """A generation that went wrong scores 0, and is undefined only where an answer would be, too."""
    values, details = np.full(len(items.rows), math.nan), []
    for place, (row, reply) in enumerate(zip(items.rows, items.replies[name], strict=True)):
        score = metric(row, reply.text)
        if score.value is not None:
            values[place] = 0.0 if reply.error else score.value
        details.append(f"generation: {reply.error}" if reply.error else score.detail)
    return Scored(values, details)


def findings(step: Compare, items: Items, scored: dict[str, dict[str, Scored]]) -> dict[str, Any]:
    everything = np.arange(len(items.rows))
    assert step.after is not None  # a validator sees to it
    report: dict[str, Any] = {
        "kind": "comparison",
        "format": 1,
        "num_items": len(items.rows),
        "models": list(step.models),
        "after": step.after,
        "metrics": [metric.name for metric in step.metrics if isinstance(metric, Metric)],
        "alpha": step.alpha,
        "scores": _scores(step, items, scored, everything),
        "pairs": _pairs(step, scored, everything, len(step.models) - 1),
        "slices": _all_slices(step, items, scored),
    }
    _adjust(report["pairs"], step.alpha)
    _adjust([pair for entry in report["slices"] for pair in entry["pairs"]], step.alpha)
    lead = report["metrics"][0]
    for pair in report["pairs"]:
        if pair["metric"] == lead:
            before, after = scored[pair["before"]][lead].values, scored[pair["after"]][lead].values
            pair["flips"] = _flips(items, before, after, pair["before"], pair["after"], scored, lead)
    report["num_wrong"] = int((scored[step.after][lead].values < 1).sum())
    report["wrong"] = _wrong(items, scored[step.after][lead], step.after)
    return report


def _scores(step: Compare, items: Items, scored: dict[str, dict[str, Scored]], of: NDArray[np.int64]) -> dict[str, Any]:
    return {
        name: {
            metric: _score(step, found.values[of], [items.replies[name][i] for i in of]) for metric, found in by.items()
        }
        for name, by in scored.items()
    }


def _score(step: Compare, values: Scores, replies: Sequence[Reply]) -> dict[str, Any]:
    defined = ~np.isnan(values)
    known = values[defined]
    errors = Counter(reply.error for reply, is_known in zip(replies, defined, strict=True) if reply.error and is_known)
    binary = bool(np.isin(known, (0.0, 1.0)).all())
    if binary:
        interval = wilson(int(known.sum()), known.size, 1 - step.alpha)
    else:
        interval = bootstrap_mean(known, resamples=step.resamples, confidence=1 - step.alpha, seed=step.seed)
    right, failed = int((known == 1).sum()), sum(errors.values())
    return {
        "score": _plain(known.mean()) if known.size else None,
        "low": _plain(interval.low),
        "high": _plain(interval.high),
        "interval": "Wilson" if binary else "bootstrap",
        "num_items": int(known.size),
        "right": right,
        "wrong": int(known.size) - right - failed,
        "errors": dict(sorted(errors.items())),
        "undefined": int((~defined).sum()),
    }


def _pairs(
    step: Compare, scored: dict[str, dict[str, Scored]], of: NDArray[np.int64], looks: int
) -> list[dict[str, Any]]:
    """`after` against each other model on the items `of`; `looks` is the number of comparisons by one metric."""
    assert step.after is not None
    found = []
    for before in step.models:
        if before == step.after:
            continue
        for metric, scores in scored[before].items():
            first, second = scores.values[of], scored[step.after][metric].values[of]
            both = ~np.isnan(first) & ~np.isnan(second)
            paired = compare_pairs(
                first[both], second[both], alpha=step.alpha, looks=looks, resamples=step.resamples, seed=step.seed
            )
            found.append({"before": before, "after": step.after, "metric": metric, **_as_value(paired)})
    return found


def _as_value(paired: Paired) -> dict[str, Any]:
    value = {
        name: _plain(found) for name, found in paired._asdict().items() if name not in ("before", "after", "interval")
    }
    return {
        **value,
        "score_before": _plain(paired.before),
        "score_after": _plain(paired.after),
        "low": _plain(paired.interval.low),
        "high": _plain(paired.interval.high),
    }


def _adjust(pairs: list[dict[str, Any]], alpha: float) -> None:
    """Holm's correction over the pairs of each metric, and a plain sentence for each pair."""
    for metric in dict.fromkeys(pair["metric"] for pair in pairs):
        family = [pair for pair in pairs if pair["metric"] == metric]
        adjusted = holm([math.nan if pair["p_value"] is None else pair["p_value"] for pair in family])
        for pair, p_value in zip(family, adjusted, strict=True):
            pair["p_holm"] = _plain(p_value)
            pair["sentence"] = sentence(pair, alpha, len(family))


def sentence(pair: dict[str, Any], alpha: float, looks: int = 1) -> str:
    """What a paired difference says, in plain words; its p was corrected for `looks` comparisons."""
    if not pair["num_items"]:
        return "There is no row on which both can be scored."
    points, low, high = (100 * pair[name] for name in ("difference", "low", "high"))
    said = f"{points:+.1f} points [{low:+.1f}, {high:+.1f}] on {pair['num_items']} rows"
    chance = f"p {_p(pair['p_holm'])}" + (f", corrected for {looks} comparisons" if looks > 1 else "")
    if pair["p_holm"] < alpha:
        return f"{said}: `{pair['after']}` is {'better' if points > 0 else 'worse'} ({chance})."
    smallest = 100 * pair["smallest_detectable"]
    return (
        f"{said}: not distinguishable from zero ({chance}); so many rows would show a difference of "
        f"{smallest:.1f} points four times out of five."
    )


def _all_slices(step: Compare, items: Items, scored: dict[str, dict[str, Scored]]) -> list[dict[str, Any]]:
    parts = [(column, value, of) for column in step.slices for value, of in _places(items, column).items()]
    looks = len(parts) * (len(step.models) - 1)
    found = []
    for column, value, of in parts:
        entry = {"column": column, "value": value, "num_items": len(of), "share": len(of) / len(items.rows)}
        found.append({**entry, "scores": _scores(step, items, scored, of), "pairs": _pairs(step, scored, of, looks)})
    return found


def _places(items: Items, column: str) -> dict[str, NDArray[np.int64]]:
    """The values of a slice column, sorted, with the items that have them."""
    if column not in items.rows[0]:
        known = ", ".join(f"`{name}`" for name in items.rows[0] if not name.startswith("_"))
        raise RecipeError(f"`slices` names `{column}`, which the rows do not have", f"There are {known}.")
    values = ["none" if row[column] is None else str(row[column]) for row in items.rows]
    distinct = sorted(set(values))
    if len(distinct) > MAX_VALUES:
        raise RecipeError(
            f"the slice column `{column}` has {len(distinct)} values", f"Give one with at most {MAX_VALUES} values."
        )
    return {value: np.array([place for place, own in enumerate(values) if own == value]) for value in distinct}


def _flips(
    items: Items,
    before: Scores,
    after: Scores,
    first: str,
    second: str,
    scored: dict[str, dict[str, Scored]],
    metric: str,
) -> dict[str, list[dict[str, Any]]]:
    both = ~np.isnan(before) & ~np.isnan(after)
    fixed, broken = flips(np.where(both, before, 0), np.where(both, after, 0))

    def listed(places: NDArray[np.int64]) -> list[dict[str, Any]]:
        return [
            {
                **shown(items, place),
                "before": _reply(items, first, place),
                "after": _reply(items, second, place),
                "why": scored[first if before[place] < after[place] else second][metric].details[place],
            }
            for place in places[:MAX_LISTED].tolist()
        ]

    return {"fixed": listed(fixed), "broken": listed(broken)}


def _wrong(items: Items, scored: Scored, name: str) -> list[dict[str, Any]]:
    """What is still not right."""
    places = np.flatnonzero(scored.values < 1)[:MAX_LISTED].tolist()
    return [
        {**shown(items, place), "reply": _reply(items, name, place), "why": scored.details[place]} for place in places
    ]


def _reply(items: Items, name: str, place: int) -> dict[str, Any]:
    reply = items.replies[name][place]
    return {"text": reply.text, "error": reply.error}


def item_table(step: Compare, items: Items, scored: dict[str, dict[str, Scored]]) -> pa.Table:
    """A line for each row and model."""
    lines = []
    for name in step.models:
        for place, (row, reply) in enumerate(zip(items.rows, items.replies[name], strict=True)):
            scores = {metric: _plain(found.values[place]) for metric, found in scored[name].items()}
            lines.append(
                {
                    **shown(items, place),
                    "model": name,
                    "reply": reply.text,
                    "finish": reply.finish,
                    "error": reply.error,
                    "scores": json.dumps(scores),
                    "details": json.dumps({metric: found.details[place] for metric, found in scored[name].items()}),
                    "slices": json.dumps({column: as_text(row[column]) for column in step.slices}),
                }
            )
    names = ("item", "model", "input", "expected", "reply", "finish", "error", "scores", "details", "slices")
    return pa.Table.from_pylist(lines, schema=pa.schema([(name, pa.string()) for name in names]))


def _plain(value: Any) -> Any:
    """numpy scalars as Python's, what is not a number as None."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"
