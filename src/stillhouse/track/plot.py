"""Curves of a metric: as a PNG file, and in the terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.errors import RecipeError


class Curve(NamedTuple):
    """The steps and values of one metric in one run, in order of step."""

    label: str
    steps: list[int]
    values: list[float]


def curves(store: str | os.PathLike[str], metric: str, runs: Sequence[str] = (), *, points: int = 1000) -> list[Curve]:
    """The curves of `metric`, of all runs or of those named by id or name, thinned to about `points` each.

    A session's run stands for the steps that ran under it. A step's curve is labelled by the name of its result, where
    it has one.

    Thinning keeps the lowest and the highest value of each stretch, so that no spike is lost. Raises `RecipeError` with
    the metrics there are when nothing has that name.
    """
    from .query import query

    named = f"SELECT id FROM runs WHERE id IN ({_texts(runs)}) OR name IN ({_texts(runs)})" if runs else ""
    chosen = f" AND (r.id IN ({named}) OR r.parent IN ({named}))" if runs else ""
    sql = (
        "SELECT m.run, coalesce(nullif(array_to_string(a.names, ', '), ''), r.name) AS name, m.step, m.value "
        "FROM metrics m JOIN runs r ON r.id = m.run LEFT JOIN artifacts a ON a.key = r.step_key "
        f"WHERE m.metric = {_texts([metric])} AND m.value IS NOT NULL{chosen} ORDER BY r.started, m.run, m.step"
    )
    found: dict[str, Curve] = {}
    for row in query(store, sql).to_pylist():
        curve = found.setdefault(row["run"], Curve(row["name"], [], []))
        curve.steps.append(row["step"])
        curve.values.append(row["value"])
    if not found:
        known = [row["metric"] for row in query(store, "SELECT DISTINCT metric FROM metrics ORDER BY ALL").to_pylist()]
        raise RecipeError(f"nothing logged a metric `{metric}`{' in these runs' if runs else ''}", _known(known))
    labels = [curve.label for curve in found.values()]
    told_apart = [
        curve._replace(label=curve.label if labels.count(curve.label) == 1 else f"{curve.label} ({run})")
        for run, curve in found.items()
    ]
    return [thinned(curve, points) for curve in told_apart]


def thinned(curve: Curve, points: int) -> Curve:
    """At most about `points` points: of each stretch of steps the lowest and the highest value, in order."""
    size = len(curve.steps)
    if size <= points:
        return curve
    kept: set[int] = {0, size - 1}
    stretches = max(1, points // 2)
    for index in range(stretches):
        start, stop = index * size // stretches, (index + 1) * size // stretches
        if start < stop:
            kept.add(min(range(start, stop), key=curve.values.__getitem__))
            kept.add(max(range(start, stop), key=curve.values.__getitem__))
    order = sorted(kept)
    return Curve(curve.label, [curve.steps[i] for i in order], [curve.values[i] for i in order])


def plot_png(
    store: str | os.PathLike[str],
    metric: str,
    path: str | os.PathLike[str],
    runs: Sequence[str] = (),
    *,
    log: bool = False,
) -> Path:
    """Draw `metric` over steps into a PNG file at `path`; needs the extra `plot`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise RecipeError(
            "a PNG needs matplotlib, which is not installed", "Run `pip install 'stillhouse[plot]'`, or plot as text."
        ) from error

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    found = curves(store, metric, runs)
    for curve in found:
        axes.plot(curve.steps, curve.values, label=curve.label, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    if log:
        axes.set_yscale("log")
    if len(found) > 1:
        axes.legend(fontsize="small")
    target = Path(path)
    try:
        figure.savefig(target, dpi=150, format="png")
    except OSError as error:
        raise RecipeError(f"`{target}` cannot be written: {error.strerror or error}") from error
    return target


def plot_text(
    store: str | os.PathLike[str],
    metric: str,
    runs: Sequence[str] = (),
    *,
    width: int = 80,
    height: int = 20,
    log: bool = False,
) -> str:
    """The same as plain text of `width` by `height` characters, for a terminal."""
    from ._terminal import drawn

    return drawn(metric, curves(store, metric, runs, points=4 * width), width, height, log)


def _known(names: list[str]) -> str:
    return (
        f"Logged here: {', '.join(names[:30])}{', …' if len(names) > 30 else ''}."
        if names
        else "Nothing was logged here."
    )


def _texts(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
