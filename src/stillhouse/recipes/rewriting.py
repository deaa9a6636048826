"""A graph of steps made anew with some of its values or nodes changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..core.node import Node

N = TypeVar("N", bound=Node)


class Rewriter:
    """Makes steps anew from their inputs up: `value` changes values that are no nodes, `node` each step and part.

    Each node is made once, however often it is mentioned; where nothing changes it stays the same object.
    """

    def __init__(
        self,
        *,
        value: Callable[[Any], Any] = lambda value: value,
        node: Callable[[Any], Node] = lambda node: node,
    ) -> None:
        self._value, self._node = value, node
        self._made: dict[int, tuple[Node, Node]] = {}  # by identity; the old node is held so that its id stays its own

    def __call__(self, node: N) -> N:
        known = self._made.get(id(node))
        if known is None:
            known = (node, self._node(self._changed(node)))
            self._made[id(node)] = known
        return known[1]  # type: ignore[return-value]

    def _changed(self, node: Node) -> Node:
        changes = {}
        for name in type(node).model_fields:
            before = getattr(node, name)
            after = self._any(before)
            if after is not before:
                changes[name] = after
        return node.replace(**changes) if changes else node

    def _any(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self(value)
        if isinstance(value, Mapping):
            items = {key: self._any(item) for key, item in value.items()}
            return items if any(items[key] is not value[key] for key in items) else value
        if isinstance(value, tuple):
            found = [self._any(item) for item in value]
            return tuple(found) if any(new is not old for new, old in zip(found, value, strict=True)) else value
        return self._value(value)
