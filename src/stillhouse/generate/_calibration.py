"""The figures of a calibration."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.context import Context
from ..core.errors import RecipeError
from ..measure.agreement import cohen_kappa
from ..measure.intervals import wilson
from ..rows.transform import lacks, missing_column

if TYPE_CHECKING:
    from .calibration import Calibrate

RESAMPLES = 2000
Numbers = NDArray[np.float64]


def write_report(step: Calibrate, context: Context) -> None:
    source = context.get(step.rows)
    for column in (step.judge, step.human):
        if lacks(source, column):
            raise missing_column("Calibrate", column, source.columns)
    pairs: list[tuple[Any, Any]] = []
    without = 0
    for row in source:
        judge, human = row[step.judge], row[step.human]
        if judge is None or human is None:
            without += 1
        else:
            pairs.append((judge, human))
    if not pairs:
        raise RecipeError(
            f"Calibrate: no row has a value in `{step.judge}` and one in `{step.human}`",
            "Label some rows by hand: fifty are a beginning.",
        )
    judges, humans = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if all(_is_number(value) for pair in pairs for value in pair):
        found = of_numbers(_scaled(judges, step.judge_scale), _scaled(humans, step.human_scale))
    else:
        found = of_categories([str(value) for value in judges], [str(value) for value in humans])
    found = {"rows": len(pairs), "without_label": without, "judge": step.judge, "human": step.human, **found}
    context.folder.joinpath("report.json").write_text(json.dumps(found, indent=1) + "\n")
    context.folder.joinpath("report.txt").write_text(text_of(found) + "\n")
    context.note(rows=len(pairs), without_label=without)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(values: Sequence[float], scale: tuple[float, float] | None) -> Numbers:
    found = np.asarray(values, dtype=np.float64)
    return found if scale is None else (found - scale[0]) / (scale[1] - scale[0])


def of_numbers(judge: Numbers, human: Numbers) -> dict[str, Any]:
    """Correlations and differences of two series of numbers, as JSON values; None where one is undefined."""
    found: dict[str, Any] = {
        "kind": "numbers",
        "spearman": _with_interval(judge, human, lambda one, other: pearson(ranks(one), ranks(other))),
        "pearson": _with_interval(judge, human, pearson),
        "judge_is_higher_by": _with_interval(judge, human, lambda one, other: float(np.mean(one - other))),
        "mean_distance": _with_interval(judge, human, lambda one, other: float(np.mean(np.abs(one - other)))),
    }
    if np.all(judge == np.round(judge)) and np.all(human == np.round(human)):
        kappa = cohen_kappa(judge.tolist(), human.tolist(), "quadratic")
        found["weighted_kappa"] = None if math.isnan(kappa) else kappa
        same = int(np.sum(judge == human))
        found["same"] = {"rows": same, "share": same / judge.size, **wilson(same, judge.size)._asdict()}
    return found


def of_categories(judge: Sequence[str], human: Sequence[str]) -> dict[str, Any]:
    """How often two series of names are the same, as JSON values."""
    same = sum(one == other for one, other in zip(judge, human, strict=True))
    kappa = cohen_kappa(judge, human)
    taken = Counter(zip(human, judge, strict=True))
    return {
        "kind": "categories",
        "same": {"rows": same, "share": same / len(judge), **wilson(same, len(judge))._asdict()},
        "kappa": None if math.isnan(kappa) else kappa,
        "taken_for": [
            {"human": human_value, "judge": judge_value, "rows": count}
            for (human_value, judge_value), count in sorted(taken.items())
        ],
    }


def pearson(one: Numbers, other: Numbers) -> float:
    """Correlation; nan where one of the two never varies."""
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return math.nan if scale == 0 else float(one @ other) / scale


def ranks(values: Numbers) -> Numbers:
    """The place of each value among all, equal ones sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: Numbers = last - (counts - 1) / 2
    return mean_rank[inverse.reshape(-1)]


def _with_interval(judge: Numbers, human: Numbers, figure: Callable[[Numbers, Numbers], float]) -> dict[str, Any]:
    value = figure(judge, human)
    generator = np.random.default_rng(0)
    drawn = (generator.integers(0, judge.size, judge.size) for _ in range(RESAMPLES))
    made = np.array([figure(judge[places], human[places]) for places in drawn])
    made = made[~np.isnan(made)]
    if math.isnan(value) or not made.size:
        return {"value": None, "low": None, "high": None}
    low, high = np.quantile(made, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def text_of(found: Mapping[str, Any]) -> str:
    """The report for reading."""
    lines = [f"`{found['judge']}` against `{found['human']}` on {found['rows']} rows, 95 % intervals", ""]
    if found["without_label"]:
        lines[0] += f" ({found['without_label']} without a value left out)"
    if found["kind"] == "numbers":
        names = {
            "spearman": "rank correlation (Spearman)",
            "pearson": "correlation (Pearson)",
            "judge_is_higher_by": "the judge is higher by",
            "mean_distance": "mean distance",
        }
        for name, label in names.items():
            lines.append(f"{label:<28} {_figure(found[name])}")
        if "weighted_kappa" in found:
            kappa = found["weighted_kappa"]
            lines.append(f"{'weighted kappa (quadratic)':<28} {'undefined' if kappa is None else f'{kappa:.2f}'}")
            lines.append(f"{'the same score':<28} {_share(found['same'])}")
        return "\n".join(lines)
    kappa = found["kappa"]
    lines.append(f"{'the same':<28} {_share(found['same'])}")
    lines.append(f"{'kappa (Cohen)':<28} {'undefined' if kappa is None else f'{kappa:.2f}'}")
    wrong = [entry for entry in found["taken_for"] if entry["human"] != entry["judge"]]
    for entry in sorted(wrong, key=lambda entry: -entry["rows"]):
        times = "once" if entry["rows"] == 1 else f"{entry['rows']} times"
        lines.append(f"`{entry['human']}` taken for `{entry['judge']}` {times}")
    return "\n".join(lines)


def _figure(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "undefined: one side never varies"
    return f"{found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _share(found: Mapping[str, Any]) -> str:
    return f"{100 * found['share']:.1f} % [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
