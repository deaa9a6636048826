"""`stillhouse list`: the steps and parts that recipes can use."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from . import exits
from .output import print_json, table

if TYPE_CHECKING:
    from ..core.node import Node


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a step, a part, or a family such as `rows`")


def run(arguments: argparse.Namespace) -> int:
    from ..core.catalogue import catalogue
    from ..core.serial import class_named

    entries = {name: entry.help for name, entry in catalogue().items()}
    wanted = arguments.name
    if wanted is not None and not any(name.startswith(f"{wanted}.") for name in entries):
        return _one(class_named(wanted, "list"), as_json=arguments.json)
    chosen = {name: text for name, text in entries.items() if wanted is None or name.startswith(f"{wanted}.")}
    if arguments.json:
        print_json(chosen)
    else:
        print(table(chosen.items(), ["name", "help"]))
    return exits.DONE


def _one(kind: type[Node], *, as_json: bool) -> int:
    from ..core.step import Step

    made = kind.makes().kind if issubclass(kind, Step) else None
    found = [_field(name, field) for name, field in kind.model_fields.items()]
    if as_json:
        print_json({"tag": kind.tag, "makes": made, "help": inspect.getdoc(kind), "fields": found})
        return exits.DONE
    print(f"{kind.tag}" + (f"  makes {made}" if made else "") + f"\n\n{inspect.getdoc(kind)}\n")
    lines = [(f["name"], f["type"], "required" if f["required"] else f["default"], f["help"] or "") for f in found]
    print(table(lines, ["field", "type", "default", "help"]))
    return exits.DONE


def _field(name: str, field: Any) -> dict[str, Any]:
    default = None if field.is_required() else repr(field.get_default(call_default_factory=True))
    return {
        "name": name,
        "type": _type_name(field.annotation),
        "required": field.is_required(),
        "default": default,
        "help": field.description,
    }


def _type_name(annotation: Any) -> str:
    text = (
        annotation.__name__
        if isinstance(annotation, type) and not getattr(annotation, "__args__", None)
        else str(annotation)
    )
    for noise in ("typing.", "collections.abc.", "builtins."):
        text = text.replace(noise, "")
    return text.rpartition(".")[2] if "[" not in text else text
