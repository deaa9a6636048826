"""Choosing rows by a column of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.context import Context
from ._choice import Why, numbers_of, write_chosen

if TYPE_CHECKING:
    from .band import Band


def write_band(step: Band, context: Context) -> None:
    """The work of `Band`."""
    source = context.get(step.rows)
    values = numbers_of(source, step.by, context)
    known = values[~np.isnan(values)]
    low = -np.inf if step.at_least is None else step.at_least
    high = np.inf if step.at_most is None else step.at_most
    if step.percentiles is not None and len(known):
        low, high = (float(bound) for bound in np.percentile(known, step.percentiles))
    with np.errstate(invalid="ignore"):
        keep = (values >= low) & (values <= high)
    context.note(**{name: bound for name, bound in (("at_least", low), ("at_most", high)) if np.isfinite(bound)})

    def why(row: int) -> Why:
        if np.isnan(values[row]):
            return Why(f"`{step.by}` is missing")
        side, bound = ("below", low) if values[row] < low else ("above", high)
        return Why(f"`{step.by}` {side} the band", f"{values[row]:.6g}, bound {bound:.6g}")

    write_chosen(source, context, keep, why)
