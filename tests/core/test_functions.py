from __future__ import annotations

import importlib.util
import os
import subprocess
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


HELPER = "def g(row):\n    return {'a': 1}\n"
HOLES = {
    "a module imported inside": ("def f(row):\n    from .helpers import g\n    return g(row)\n", HELPER),
    "a module under another": ("import pack.helpers\ndef f(row):\n    return pack.helpers.g(row)\n", HELPER),
    "a module taken by name": ("from . import helpers\ndef f(row):\n    return getattr(helpers, 'g')(row)\n", HELPER),
    "a module by another name": ("from . import helpers\ndef f(row):\n    x = helpers\n    return x.g(row)\n", HELPER),
    "a module loaded by name": (
        "import importlib\ndef f(row):\n    return importlib.import_module('pack.helpers').g(row)\n",
        HELPER,
    ),
    "a module behind the one imported inside": (
        "def f(row):\n    from . import between\n    return between.g(row)\n",
        HELPER,
    ),
    "a decorator": (
        "from .helpers import deco\n@deco\ndef f(row):\n    return row\n",
        "import functools\ndef deco(fn):\n    @functools.wraps(fn)\n    def inner(row):\n        return {'a': 1}\n"
        "    return inner\n",
    ),
    "the argument of a decorator": (
        "from .helpers import deco, N\n@deco(N)\ndef f(row):\n    return row\n",
        "import functools\nN = 1\ndef deco(n):\n    def d(fn):\n        @functools.wraps(fn)\n        def inner(row):\n"
        "            return {'a': n}\n        return inner\n    return d\n",
    ),
    "a helper of a step": (
        "from stillhouse.core.step import MapStep\nfrom .helpers import g\nclass S(MapStep, tag='test.reaching/1'):\n"
        "    def mapper(self, context):\n        return lambda rows: [g(row) for row in rows]\n",
        HELPER,
    ),
    "the base of a step": (
        "from .helpers import Base\nclass S(Base, tag='test.based/1'):\n    pass\n",
        "from stillhouse.core.step import MapStep\nclass Base(MapStep):\n    def mapper(self, context):\n"
        "        return lambda rows: [1]\n",
    ),
}
PROGRAM = """
from pack import mod
from tests.core.steps import Apply, Numbers
rows = Numbers(count=1)
print((mod.S(rows=rows) if hasattr(mod, "S") else Apply(rows=rows, function=mod.f)).recipe_key)
"""


@pytest.mark.parametrize("hole", HOLES)
def test_a_change_counts_however_it_is_reached(tmp_path: Path, hole: str) -> None:
    module, helper = HOLES[hole]
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "between.py").write_text("from .helpers import g\n")
    (tmp_path / "pack" / "mod.py").write_text(module)
    keys = []
    for text in (helper, helper, helper.replace("1", "2")):
        (tmp_path / "pack" / "helpers.py").write_text(text)
        path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
        command = [sys.executable, "-B", "-c", PROGRAM]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True
        )
        keys.append(done.stdout)
    assert keys[0] == keys[1] != keys[2]


def test_a_library_imported_inside_is_not_loaded_for_the_key(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom stillhouse.core.functions import function_form\nfrom written import reads\n"
        "print(function_form(reads)['function']['reaches'], 'duckdb' in sys.modules)"
    )
    (tmp_path / "written.py").write_text("def reads(row):\n    import duckdb\n    return duckdb.connect()\n")
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True,
        check=True, capture_output=True,
    )  # fmt: skip
    assert "'import duckdb', {'code': ['duckdb'" in done.stdout
    assert done.stdout.endswith("False\n")
