"""The teacher's view of the task as a whole, poured into whatever shape the request's JSON Schema asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .menu import DRINKS, EXTRAS, FOOD, MAX_COUNT

Schema = dict[str, Any]

_TEXTS = {
    "task": "Turn what a guest of a coffee bar says into the order as JSON: what, how many, which size, which extras, "
    "and whether it is taken away.",
    "input": "One message of a guest, spoken at the counter or written: a few words up to some sentences, with "
    "greetings, names, reasons and politeness around the order.",
    "output": "A JSON object on one line with `items` (a list of objects with `count`, `item`, `size`, `extras`, in "
    "the order of mention) and `to_go` (true or false).",
    "reasoning": "One short clause for each thing ordered (count, size, item, extras), then whether it is to go.",
    "difficulty": "Easy to medium: the words are plain; counts, sizes and extras must go to the right items.",
    "domain": "Orders at a coffee bar.",
    "tone": "Everyday English, from terse notes to chatty sentences.",
    "name": "coffee orders",
}
_LISTS = {
    "constraints": [
        f"Items are named exactly as on the menu: {', '.join(DRINKS + FOOD)}.",
        f"`count` is a whole number from 1 to {MAX_COUNT}; no number means 1.",
        "`size` is small, medium, large or null; food has no size.",
        f"`extras` holds only names of this list, in this order: {', '.join(EXTRAS)}; food has none.",
        "`to_go` is true only where the guest takes the order away.",
        "No corrections, negations, prices or questions; nothing that is not on the menu.",
    ],
    "patterns": [
        "Find the menu names in the order of mention.",
        "Take the count and the words before each name with it, and what follows it with `with` or a comma.",
        "Map other words to the sheet's own: regular is medium, oat is oat milk, a bun is a cinnamon roll.",
        "Look for a word about taking away.",
    ],
    "diversity": [
        "number of items from one to six",
        "counts as words, digits, a couple, half a dozen",
        "extras before and after the item",
        "greetings, names, reasons, weather around the order",
        "terse lists, messages and chatty sentences",
    ],
    "mistakes": ["an extra given to the wrong item", "a number that counts people or minutes taken for a count"],
}
_KEYS = [  # a property is filled by the first entry of which a word stands in its name
    (("constraint", "rule", "require", "must"), "constraints"),
    (("pattern", "step", "strateg", "procedure"), "patterns"),
    (("divers", "variat", "vary", "topic", "categor", "dimension", "axes"), "diversity"),
    (("mistake", "error", "pitfall", "edge"), "mistakes"),
    (("difficult", "complex", "level"), "difficulty"),
    (("reason", "think", "chain"), "reasoning"),
    (("input", "question", "prompt"), "input"),
    (("output", "answer", "response", "reply"), "output"),
    (("domain", "field", "subject"), "domain"),
    (("tone", "style", "language", "register"), "tone"),
    (("title", "name"), "name"),
]
_LENGTHS = {"input": (12, 400), "output": (60, 520), "reasoning": (10, 160)}  # characters
_CHARACTERS_PER_WORD = 6


def policy_for(schema: Schema) -> dict[str, Any]:
    """A policy with every property that `schema` (a JSON Schema of an object) declares, references followed."""
    filled = _fill(schema, "", schema)
    return filled if isinstance(filled, dict) else {}


def _fill(schema: Schema, path: str, root: Schema) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _nearest(schema["enum"])
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {
            name: _fill(part, f"{path} {name.lower()}", root) for name, part in schema.get("properties", {}).items()
        }
    if kind == "array":
        return _array(schema, path, root)
    if kind in ("integer", "number"):
        return _number(schema, path)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    key = _key(path)
    return " ".join(_LISTS[key]) if key in _LISTS else _TEXTS[key]


def _resolve(schema: Schema, root: Schema) -> Schema:
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _resolve(target, root)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            options = [_resolve(option, root) for option in schema[choice]]
            return next((option for option in options if option.get("type") != "null"), options[0])
    return schema


def _nearest(choices: Sequence[Any]) -> Any:
    """The middle of a scale (`easy`, `medium`, `hard`), the first where there is none."""
    return "medium" if "medium" in choices else choices[0]


def _key(path: str) -> str:
    names = path.split()
    for name in reversed(names):  # the property's own name says more than those around it
        for words, key in _KEYS:
            if any(word in name for word in words):
                return key
    return "task"


def _array(schema: Schema, path: str, root: Schema) -> list[Any]:
    items = _resolve(schema.get("items") or (schema.get("prefixItems") or [{}])[0], root)
    if items.get("type") in ("integer", "number"):
        return list(_range(path))
    if items.get("type") == "object" or items.get("enum"):
        return [_fill(items, path, root)] * max(1, schema.get("minItems", 1))
    key = _key(path)
    known = _LISTS.get(key) or [_TEXTS[key]]
    least, most = int(schema.get("minItems", 1)), int(schema.get("maxItems", len(known)))
    return (known * max(1, least))[: max(least, min(most, len(known)))]


def _range(path: str) -> tuple[int, int]:
    of = {"output": "output", "answer": "output", "reason": "reasoning", "think": "reasoning"}
    low, high = _LENGTHS[next((part for word, part in of.items() if word in path), "input")]
    if "word" in path:
        return max(1, low // _CHARACTERS_PER_WORD), high // _CHARACTERS_PER_WORD
    return low, high


def _number(schema: Schema, path: str) -> int:
    low, high = _range(path)
    value = low if any(word in path for word in ("min", "low", "short", "from")) else high
    value = min(value, int(schema.get("maximum", value)))
    return max(value, int(schema.get("minimum", value)))
