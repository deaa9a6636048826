"""YAML with line numbers, in the core schema of YAML 1.2: `no` and `2020-01-01` are texts, `1e-4` is a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from ..core.errors import RecipeError

_TAG = "tag:yaml.org,2002:"


class Marked(NamedTuple):
    """A document and the line on which each value begins, by dotted place (`nodes.clean.rows`, `nodes.mix.parts.0`)."""

    value: Any
    lines: Mapping[str, int]


def read_yaml(text: str, name: str) -> Marked:
    """The one document in `text`. Raises `RecipeError` with file and line for what is no YAML, or has a key twice."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            reader = _Reader(loader, name)
            return Marked(None if root is None else reader.value(root, ""), reader.lines)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{place}: this is not YAML: {error.problem or error.context}", _advice(error)) from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: this is not YAML: {error}") from None


def typed(text: str, name: str) -> Any:
    """One value as YAML types it: `20` a number, `true` a boolean, `[1, 2]` a list, anything else text."""
    return read_yaml(text, name).value


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}


def _resolve(name: str, pattern: str, first: list[str]) -> None:
    _Loader.add_implicit_resolver(f"{_TAG}{name}", re.compile(f"^(?:{pattern})$"), first)


_resolve("null", "~|null|Null|NULL|", ["~", "n", "N", ""])
_resolve("bool", "true|True|TRUE|false|False|FALSE", list("tTfF"))
_resolve("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"))
_resolve(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    list("-+.0123456789"),
)
_resolve("merge", "<<", ["<"])


def _integer(loader: _Loader, node: ScalarNode) -> int:
    del loader
    base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
    return int(node.value, base)


def _float(loader: _Loader, node: ScalarNode) -> float:
    del loader
    text = node.value.lower()
    if text.endswith(".inf"):
        return -math.inf if text.startswith("-") else math.inf
    return math.nan if text == ".nan" else float(text)


_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.add_constructor(f"{_TAG}float", _float)


class _Reader:
    """Turns YAML's nodes into values and notes their lines."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.lines: dict[str, int] = {}
        self._loader = loader
        self._name = name
        self._open: list[Node] = []

    def value(self, node: Node, where: str) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if any(node is known for known in self._open):
            raise self._error(node, "an anchor holds itself")
        self._open.append(node)
        try:
            if isinstance(node, CollectionNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
                raise self._error(node, f"the tag `{node.tag}` has no meaning here")
            if isinstance(node, MappingNode):
                return self._mapping(node, where)
            if isinstance(node, SequenceNode):
                return [self.value(item, f"{where}.{index}".lstrip(".")) for index, item in enumerate(node.value)]
            return self._loader.construct_object(node)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, where: str) -> dict[str, Any]:
        own: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key is not text")
            if key.value in own and key.tag != f"{_TAG}merge":
                raise self._error(key, f"`{key.value}` stands twice")
            own.add(key.value)
        self._loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, item in node.value:
            inner = f"{where}.{key.value}".lstrip(".")
            self.lines[inner] = key.start_mark.line + 1
            found[key.value] = self.value(item, inner)
        return found

    def _error(self, node: Node, message: str) -> RecipeError:
        return RecipeError(f"{self._name}:{node.start_mark.line + 1}: {message}")


def _advice(error: yaml.MarkedYAMLError) -> str | None:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "Indent with spaces, not with tabs."
    if "mapping values are not allowed" in problem:
        return "Put texts that hold `: ` in quotes, and indent what belongs together alike."
    return None
