"""Counting through the combinations."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

from ..core.context import Context
from .grid import Grid


def write_grid(step: Grid, context: Context) -> None:
    counter = itertools.count()
    with context.rows() as writer:
        for place in _places(step):
            combination = combination_at(step, place)
            for _ in range(step.each):
                numbered = {} if step.number is None else {step.number: next(counter)}
                writer.emit({**combination, **numbered})
            if place % 1024 == 0:
                context.check_stop()


def _places(step: Grid) -> Iterable[int]:
    total = step.num_combinations
    if step.num is None or step.num >= total:
        return range(total)
    return sorted(random.Random(step.seed).sample(range(total), step.num))


def combination_at(step: Grid, place: int) -> dict[str, Any]:
    """The combination number `place`, the last attribute being the lowest digit."""
    found: dict[str, Any] = {}
    for name, values in reversed(list(step.attributes.items())):
        place, digit = divmod(place, len(values))
        found[name] = values[digit]
    return {name: found[name] for name in step.attributes}
