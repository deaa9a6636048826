"""A step's definition as readable data, and the difference between two: what `why` and `plan` show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import RecipeError
from .files import InputFile
from .keys import UNKNOWN, digest_of
from .node import Node
from .step import KeyBook, Output, Step

STEP = "$step"
OUTPUT = "output"


class Difference(NamedTuple):
    """One field that differs; `before` or `now` is None where the field is not there."""

    field: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.before)} → {_shown(self.now)}"


def _shown(value: Any) -> str:
    text = "(default)" if value is None else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}…"


def define(step: Step[Any], book: KeyBook) -> dict[str, Any]:
    """Tag and fields of a step; its inputs by recipe key, files and functions by digest."""
    return {"uses": step.tag, **{name: _plain(value, book) for name, value in _counted(step).items()}}


def _counted(node: Node) -> Mapping[str, Any]:
    counted = node.identity()
    return node.values() if counted is None else counted


def _plain(value: Any, book: KeyBook) -> Any:
    if isinstance(value, Output):  # it is never built itself, so the index does not know it
        return {STEP: book.recipe(value.of), OUTPUT: value.name}
    if isinstance(value, Step):
        return {STEP: book.recipe(value)}
    if isinstance(value, Node):
        return {"uses": value.tag, **{name: _plain(item, book) for name, item in _counted(value).items()}}
    if isinstance(value, InputFile):
        return {"file": value.path.name, "content": value.digest}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, book) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, book) for item in value]
        if isinstance(value, set | frozenset):
            items.sort(key=repr)
        long = len(items) > 20
        return {"items": len(items), "content": digest_of(repr(items)), "first": items[:3]} if long else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        form = book.function(value)
    except RecipeError:
        form = UNKNOWN
    if form is not UNKNOWN:
        return {"function": getattr(value, "__qualname__", repr(value)), "source": digest_of(form)}
    return repr(value)


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], recall: Callable[[str], Mapping[str, Any] | None]
) -> list[Difference]:
    """Fields that differ, inputs followed through `recall` (recipe key -> definition), each pair of steps once."""
    return list(_walk("", before, now, recall, set()))


def _walk(path: str, before: Any, now: Any, recall: Any, seen: set[tuple[str, str]]) -> list[Difference]:
    if before == now:
        return []
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        if STEP in before and STEP in now and before.get(OUTPUT) == now.get(OUTPUT):
            pair = (before[STEP], now[STEP])
            if pair in seen:
                return []
            seen.add(pair)
            old, new = recall(pair[0]), recall(pair[1])
            if old is not None and new is not None:
                return _walk(path, old, new, recall, seen)
            return [Difference(path, f"step {pair[0][:8]}", f"step {pair[1][:8]}")]
        found = []
        for name in dict.fromkeys([*before, *now]):
            inner = f"{path}.{name}" if path else name
            found += _walk(inner, before.get(name), now.get(name), recall, seen)
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            item
            for place, pair in enumerate(zip(before, now, strict=True))
            for item in _walk(f"{path}[{place}]", *pair, recall, seen)
        ]
    return [Difference(path, before, now)]
