"""The catalogues: what recipe files and the command line can name."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import stillhouse
from stillhouse.core import catalogue
from stillhouse.core.node import Node

FOLDER = Path(stillhouse.__file__).parent
PACKAGES = sorted(file.parent.name for file in FOLDER.glob("*/catalogue.py") if file.parent.name != "core")
ENTRIES = [
    (package, name, target, help_line)
    for package in PACKAGES
    for name, (target, help_line) in import_module(f"stillhouse.{package}.catalogue").CATALOGUE.items()
]

NO_PART_OF_A_RECIPE = {"stillhouse.tokens.source:Source"}  # given to a loader in Python


def resolve(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(("package", "name", "target", "help_line"), ENTRIES, ids=[entry[1] for entry in ENTRIES])
def test_an_entry_names_a_class_of_its_package_by_its_tag(package: str, name: str, target: str, help_line: str) -> None:
    assert target.startswith(f"stillhouse.{package}.")
    assert tag_of(resolve(target)).partition("/")[0] == name
    assert help_line.endswith(".")
    assert "\n" not in help_line


def test_no_name_and_no_class_stands_twice() -> None:
    assert ENTRIES
    for column in (1, 2):
        counts = Counter(entry[column] for entry in ENTRIES)
        assert [value for value, count in counts.items() if count > 1] == []


def test_every_catalogue_is_gathered() -> None:
    assert set(PACKAGES) <= set(catalogue.PACKAGES)
    assert set(catalogue.catalogue()) >= {entry[1] for entry in ENTRIES}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_tagged_class_of_a_package_is_listed(package: str) -> None:
    listed = {target for owner, _, target, _ in ENTRIES if owner == package}
    assert set(tagged(package)) - listed - NO_PART_OF_A_RECIPE == set()


def tagged(package: str) -> list[str]:
    """`module:Class` of each public class with a tag that a light module of the package defines."""
    folder = FOLDER / package
    found = []
    for file in sorted(folder.glob("**/[!_]*.py")):
        relative = file.relative_to(folder.parent).with_suffix("")
        module = import_module("stillhouse." + ".".join(relative.parts))
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and value.__module__ == module.__name__
                and not name.startswith("_")
                and tag_of(value)
            ):
                found.append(f"{module.__name__}:{name}")
    return found


def tag_of(kind: type) -> str:
    """The tag that the class itself declares, or an empty text."""
    return str(vars(kind).get("tag") or "") if issubclass(kind, Node) else ""
