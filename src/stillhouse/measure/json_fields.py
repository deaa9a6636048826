"""How many fields of a JSON answer are right."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NoReturn

from pydantic import Field

from ..core.part import Part
from ..text.normalise import canonical_json
from .score import Score, expected_value


class JsonFields(Part, tag="measure.json_fields/2"):
    """Fields with the right value, over all fields that stand in the expected answer, in the reply or in both.

    A field is a path to a plain value (`items[0].count`), or to an object or a list that is empty, as long as the other
    side has no fields inside it; so a missing field and an extra one count as much as a wrong one. `1` equals `1.0`,
    but neither `true` nor `"1"`. A reply that is not JSON scores 0. Undefined when there is no expected answer or it is
    not JSON.
    """

    lists: Literal["ordered", "unordered"] = Field(
        "ordered", description="unordered: equal elements are paired first, the others in their order"
    )
    column: str = Field("output", description="column with the expected answer, as JSON text or as a value")

    @property
    def name(self) -> str:
        return "JSON fields"

    def __call__(self, item: Mapping[str, Any], reply: str) -> Score:
        expected = expected_value(item, self.column)
        if expected is None:
            return Score(None, "no expected answer")
        if isinstance(expected, str):
            try:
                expected = parse_json(expected)
            except ValueError as error:
                return Score(None, f"the expected answer is not JSON: {error}")
        try:
            given = parse_json(reply)
        except ValueError as error:
            return Score(0.0, f"the reply is not JSON: {error}")
        if self.lists == "unordered":
            given = align(expected, given)
        known, found = leaves(expected), leaves(given)
        return _score(_without_opened(known, found), _without_opened(found, known))


def parse_json(text: str) -> Any:  # any JSON value
    """The value of a JSON text. Raises ValueError for all else, NaN and nesting past the parser's depth included."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Leaves(NamedTuple):
    """Path -> canonical JSON of each plain value, empty object and empty list; and the paths of all that holds some."""

    found: dict[str, str]
    opened: set[str]


def leaves(value: Any) -> Leaves:
    """The leaves of a JSON value; the root has the path `$`."""
    found: dict[str, str] = {}
    opened: set[str] = set()
    pending: list[tuple[str, Any]] = [("$", value)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, Mapping | list | tuple) and node:
            opened.add(path)
        if isinstance(node, Mapping) and node:
            pending.extend(
                (f"{path}.{key}" if _plain(key) else f"{path}[{json.dumps(key)}]", node[key]) for key in node
            )
        elif isinstance(node, list | tuple) and node:
            pending.extend((f"{path}[{index}]", element) for index, element in enumerate(node))
        else:
            found[path] = canonical_json(node)
    return Leaves(found, opened)


def align(expected: Any, given: Any) -> Any:
    """`given` with elements of lists moved to where equal ones stand in `expected`; the rest keep their order."""
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        return {key: align(expected[key], given[key]) if key in expected else given[key] for key in given}
    if not (isinstance(expected, list | tuple) and isinstance(given, list | tuple)):
        return given
    places: dict[str, list[int]] = {}
    for index, element in enumerate(expected):
        places.setdefault(canonical_json(element), []).append(index)
    paired: dict[int, Any] = {}
    others = []
    for element in given:
        free = places.get(canonical_json(element))
        if free:
            paired[free.pop(0)] = element
        else:
            others.append(element)
    rest = iter(others)
    result = []
    for index, element in enumerate(expected):
        if index in paired:
            result.append(paired.pop(index))
        else:
            follower = next(rest, None)
            if follower is None:
                break
            result.append(align(element, follower))
    return [*result, *paired.values(), *rest]


def _without_opened(own: Leaves, other: Leaves) -> dict[str, str]:
    """The leaves of one side but for what is empty here and has fields there: those are missing or extra already."""
    return {path: text for path, text in own.found.items() if text not in ("{}", "[]") or path not in other.opened}


def _score(expected: dict[str, str], given: dict[str, str]) -> Score:
    missing = sorted(expected.keys() - given.keys())
    extra = sorted(given.keys() - expected.keys())
    shared = expected.keys() & given.keys()
    wrong = sorted(path for path in shared if expected[path] != given[path])
    right = len(shared) - len(wrong)
    parts = [
        f"{word} {', '.join(paths[:5])}"
        for word, paths in (("wrong", wrong), ("missing", missing), ("extra", extra))
        if paths
    ]
    return Score(right / len(expected.keys() | given.keys()), "; ".join(parts) or None)


def _plain(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is not JSON")
