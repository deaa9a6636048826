"""What recipe files and the command line can name, gathered from the packages without importing what they name.

Each package has a `catalogue` module with `CATALOGUE = {"curate.dedup": ("stillhouse.curate.dedup:Dedup", "help")}`.
Other distributions add theirs through the entry point group `stillhouse.catalogue`, which names such a dict.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import NamedTuple

from .errors import RecipeError
from .node import Node

PACKAGES = (
    "rows",
    "text",
    "models",
    "tokens",
    "calls",
    "measure",
    "generate",
    "curate",
    "train",
    "evaluate",
    "publish",
    "recipes",
)


class Entry(NamedTuple):
    """Where a named thing lives, and one line of help."""

    place: str
    help: str


@functools.cache
def catalogue() -> Mapping[str, Entry]:
    """All names, in order of package. A name given twice is an error."""
    found: dict[str, Entry] = {}
    for package in PACKAGES:
        _add(found, importlib.import_module(f"stillhouse.{package}.catalogue").CATALOGUE)
    from importlib.metadata import entry_points

    for point in entry_points(group="stillhouse.catalogue"):
        _add(found, point.load())
    return found


def _add(found: dict[str, Entry], entries: Mapping[str, tuple[str, str]]) -> None:
    for name, (place, text) in entries.items():
        if name in found:
            raise RecipeError(f"`{name}` stands in two catalogues: {found[name].place} and {place}")
        found[name] = Entry(place, text)


def find_class(name: str) -> type[Node] | None:
    """The class that a name stands for, imported now; None when nothing has that name."""
    entry = catalogue().get(name)
    if entry is None:
        return None
    module, _, attribute = entry.place.partition(":")
    found: type[Node] = getattr(importlib.import_module(module), attribute)
    return found
