"""Parts: small frozen callables that carry their options; a loss, a filter, a metric, a schedule."""

from __future__ import annotations

from .node import Node


class Part(Node):
    """A function with options: `class ExactMatch(Part, tag="measure.exact_match/1")`, its work in `__call__`."""
