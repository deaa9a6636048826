from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.functions import function_form, reference, resolve
from stillhouse.core.keys import UNKNOWN, digest_of
from tests.core import helpers

SOURCE = """
LIMIT = 10

def clean(text):
    return text.strip()[:LIMIT]

def change(row):
    return {"text": clean(row["text"])}
"""


def form(function: Any) -> str:
    return digest_of(function_form(function))


def module(tmp_path: Path, source: str, name: str = "written") -> ModuleType:
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def variant(tmp_path: Path, name: str, before: str, after: str) -> str:
    assert before in SOURCE
    return form(module(tmp_path, SOURCE.replace(before, after), name).change)


def test_layout_comments_docstrings_and_annotations_do_not_count(tmp_path: Path) -> None:
    plain = form(module(tmp_path, SOURCE, "plain").change)
    dressed = SOURCE.replace(
        "def change(row):", 'def change(row: dict) -> dict:\n    """Says what."""\n    # a comment\n'
    )
    assert form(module(tmp_path, dressed, "dressed").change) == plain


def test_a_changed_body_a_changed_helper_and_a_changed_constant_count(tmp_path: Path) -> None:
    plain = form(module(tmp_path, SOURCE, "plain").change)
    changed = {
        variant(tmp_path, "body", '"text": clean', '"words": clean'),
        variant(tmp_path, "help", "text.strip()", "text.lstrip()"),
        variant(tmp_path, "limit", "LIMIT = 10", "LIMIT = 11"),
    }
    assert len(changed) == 3
    assert plain not in changed


def test_captured_values_count() -> None:
    assert form(helpers.adder(1)) != form(helpers.adder(2))
    assert form(helpers.adder(2)) == form(helpers.adder(2))


def test_lambdas_on_one_line_are_told_apart() -> None:
    first, second, nested = (lambda row: row), (lambda row: [row]), (lambda row: (lambda inner: inner)(row))
    assert len({form(first), form(second), form(nested)}) == 3


def test_a_default_argument_counts() -> None:
    def one(row: int, by: int = 1) -> int:
        return row + by

    before = form(one)
    one.__defaults__ = (2,)
    assert form(one) != before


def test_library_code_counts_by_name_and_recursion_ends() -> None:
    assert isinstance(function_form(helpers.with_library), dict)
    assert isinstance(function_form(helpers.recursive), dict)
    assert form(len) != form(max)


def test_what_is_no_function_is_left_to_others() -> None:
    assert function_form(3) is UNKNOWN


def test_an_object_without_a_stable_form_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="`STRANGE`, used by `uses_object`"):
        function_form(helpers.uses_object)


def test_a_function_without_source_is_refused() -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("def made(row):\n    return row", namespace)  # noqa: S102
    with pytest.raises(RecipeError, match="source of `made`"):
        function_form(namespace["made"])


def test_names_of_functions_go_there_and_back() -> None:
    assert resolve(reference(helpers.direct)) is helpers.direct
    with pytest.raises(RecipeError, match="another process"):
        reference(helpers.adder(1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nomodule_x:f", "no module `nomodule_x`"),
        ("math:nothing", "has no `nothing`"),
        ("math:pi", "not a function"),
        ("math", "name a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_explained(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve(name)
