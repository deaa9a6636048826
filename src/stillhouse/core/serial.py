"""Steps as data: a table of nodes that names each step once, and the way back.

```
{"nodes": {"import": {"uses": "rows.import/1", "path": "seeds.jsonl"},
           "dedup": {"uses": "curate.dedup/1", "rows": "$import"}},
 "result": "$dedup"}
```
A part stands inline as a mapping with `uses`. A text that begins with `$` is written with two. Functions are named as
`module:function`; what cannot be named (a lambda, a closure) is refused. Steps and parts of other projects are used as
`module:Class`.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from typing import Any

from .catalogue import catalogue, find_class
from .errors import RecipeError
from .files import InputFile
from .functions import reference, resolve
from .node import Node, class_of_tag
from .step import Step


def to_table(step: Step[Any]) -> dict[str, Any]:
    """The table of nodes of a step and everything it is made from."""
    writer = Writer()
    result = writer.step(step)
    return {"nodes": writer.nodes, "result": result}


class Writer:
    """Writes steps into `nodes`, each once, and gives back how they are mentioned."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}

    def step(self, step: Step[Any]) -> str:
        known = self._names.get(step.structure)
        if known is None:
            fields = self.step_fields(step)
            base = step.tag.partition(".")[2].partition("/")[0]
            known, number = base, 2
            while known in self.nodes:
                known, number = f"{base}_{number}", number + 1
            self.nodes[known] = fields
            self._names[step.structure] = known
        return f"${known}"

    def step_fields(self, step: Step[Any]) -> dict[str, Any]:
        """What stands in the step's node."""
        return self.fields(step)

    def fields(self, node: Node) -> dict[str, Any]:
        ours = type(node).__module__.partition(".")[0] == "stillhouse"
        uses = node.tag if ours else reference(type(node))
        return {"uses": uses, **{name: self.value(value) for name, value in node.values().items()}}

    def value(self, value: Any) -> Any:
        if isinstance(value, Step):
            return self.step(value)
        if isinstance(value, Node):
            return self.fields(value)
        if isinstance(value, str):
            return f"${value}" if value.startswith("$") else str(value)
        if isinstance(value, enum.Enum):
            return value.value
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, set | frozenset):
            return sorted((self.value(item) for item in value), key=repr)
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, InputFile):
            return str(value)
        if callable(value):
            return reference(value)
        raise RecipeError(f"a {type(value).__name__} cannot be written into a recipe: {value!r:.80}")


def from_table(table: Mapping[str, Any]) -> Step[Any]:
    """The step that a table of nodes describes. Raises `RecipeError` naming the node and field."""
    unknown = set(table) - {"nodes", "result"}
    if unknown or "nodes" not in table or "result" not in table:
        raise RecipeError(f"a recipe has the keys `nodes` and `result`, not {sorted(table)}")
    return _Reader(table["nodes"]).step(table["result"], "result")


def read_nodes(nodes: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Node]:
    """The node `name` and all that it mentions, by name."""
    reader = _Reader(nodes)
    reader.named(name, name)
    return reader.made


def from_value(value: Any, nodes: Mapping[str, Mapping[str, Any]], where: str) -> Any:
    """A value as it stands in a table: mentions of `nodes` and parts become steps and parts, all else stays."""
    return _Reader(nodes).value(value, where)


class _Reader:
    def __init__(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self._nodes = nodes
        self.made: dict[str, Node] = {}
        self._open: list[str] = []

    def step(self, mention: Any, where: str) -> Step[Any]:
        found = self.value(mention, where)
        if not isinstance(found, Step):
            raise RecipeError(f"`{where}` is not a step: {mention!r}", "Name one of the nodes as `$name`.", where=where)
        return found

    def named(self, name: str, where: str) -> Node:
        if name in self.made:
            return self.made[name]
        base, dot, output = name.rpartition(".")
        if name not in self._nodes and dot and base in self._nodes:
            step = self.step(f"${base}", where)
            try:
                return step.output(output)
            except RecipeError as error:
                raise RecipeError(f"`{where}`: {error.message}", error.hint, where=where) from None
        if name not in self._nodes:
            close = difflib.get_close_matches(name, list(self._nodes), n=1)
            hint = f"Did you mean `${close[0]}`?" if close else f"Nodes: {', '.join(self._nodes)}."
            raise RecipeError(f"`{where}`: there is no node `{name}`", hint, where=where)
        if name in self._open:
            raise RecipeError(f"the nodes {' → '.join([*self._open, name])} need each other in a circle", where=where)
        self._open.append(name)
        self.made[name] = self.node(self._nodes[name], name)
        self._open.pop()
        return self.made[name]

    def node(self, fields: Any, where: str) -> Node:
        if not isinstance(fields, Mapping) or "uses" not in fields:
            hint = "Write `uses: family.name`, e.g. `curate.dedup`."
            raise RecipeError(f"`{where}` does not say what it uses", hint, where=where)
        kind = class_named(str(fields["uses"]), where)
        values = {key: self.value(value, f"{where}.{key}") for key, value in fields.items() if key != "uses"}
        try:
            return kind(**values)
        except RecipeError as error:
            place = f"{where}.{error.where}" if error.where else where
            raise RecipeError(f"in `{where}`: {error.message}", error.hint, where=place) from None

    def value(self, value: Any, where: str) -> Any:
        if isinstance(value, str) and value.startswith("$"):
            return value[1:] if value.startswith("$$") else self.named(value[1:], where)
        if isinstance(value, Mapping):
            if "uses" in value:
                return self.node(value, where)
            return {key: self.value(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return value


def class_named(uses: str, where: str) -> type[Node]:
    """The class of a tag, with or without its number; a number that is not the present one is an error."""
    if ":" in uses:
        try:
            found = resolve(uses)
        except RecipeError as error:
            raise RecipeError(f"in `{where}`: {error.message}", error.hint, where=f"{where}.uses") from None
        if not (isinstance(found, type) and issubclass(found, Node)):
            raise RecipeError(f"`{where}` uses `{uses}`, which is neither a step nor a part", where=f"{where}.uses")
        return found
    name, _, number = uses.partition("/")
    kind = (class_of_tag(uses) if number else None) or find_class(name) or class_of_tag(f"{name}/{number or 1}")
    if kind is None:
        close = difflib.get_close_matches(name, list(catalogue()), n=1)
        hint = f"Did you mean `{close[0]}`?" if close else "`stillhouse list` shows what there is."
        raise RecipeError(f"`{where}` uses `{name}`, which does not exist", hint, where=f"{where}.uses")
    if number and kind.tag != uses:
        raise RecipeError(
            f"`{where}` uses `{uses}`, but this version of stillhouse makes `{kind.tag}`",
            "Its results differ. Drop the number to take the present one.",
            where=f"{where}.uses",
        )
    return kind
