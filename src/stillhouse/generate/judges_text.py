"""What judged pairs tell about their judges, for reading."""

from collections.abc import Mapping
from typing import Any

from ..core.artifact import Rows
from ..core.errors import RecipeError


def judges_text(rows: Rows) -> str:
    """A table of the judges of `JudgePairs`: how often each preferred a and b, how far its orders agree, how much it
    leans to the place of the first, and how far the judges agree.

    Raises `RecipeError` for rows that no judge compared.
    """
    found = rows.record.get("facts", {})
    if "judges" not in found:
        raise RecipeError("no judge compared these rows", "Give the result of `JudgePairs`.")
    winners = ", ".join(f"{name} {count}" for name, count in found["winners"].items())
    equal = f" ({found['equal']} of equal answers, which nobody judged)" if found["equal"] else ""
    lines = [f"{found['pairs']} pairs: {winners}{equal}", ""]
    table = [("judge", "a", "b", "tie", "orders agree", "leans to the first")]
    warnings: list[str] = []
    for name, judge in found["judges"].items():
        counts = [str(judge["winners"][each]) for each in ("a", "b", "tie")]
        table.append((name, *counts, _percent(judge["orders_agree"]), _points(judge["leans_to_first"])))
        lean = judge["leans_to_first"]
        if lean["share"] is not None and not lean["low"] <= 0 <= lean["high"]:
            place = "first" if lean["share"] > 0 else "second"
            warnings.append(f"`{name}` prefers what stands {place}, whatever it says.")
        if judge["without_verdict"]:
            warnings.append(f"`{name}` gave no two verdicts on {judge['without_verdict']} pairs.")
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    between = found.get("between_judges")
    if between:
        kappa = "undefined" if between["kappa"] is None else f"{between['kappa']:.2f}"
        lines += ["", f"All judges agree on {_percent(between['all_agree'])}; {between['of'].title()}'s kappa {kappa}."]
    return "\n".join([*lines, *([""] if warnings else []), *warnings])


def _percent(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return "–"
    return f"{100 * share['share']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _points(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return "–"
    return f"{100 * share['share']:+.1f} points [{100 * share['low']:+.1f}, {100 * share['high']:+.1f}]"
