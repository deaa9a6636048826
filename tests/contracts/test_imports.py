"""What imports what, and what it costs to import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import stillhouse

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "stillhouse"
HEAVY = {
    "aiohttp",
    "datasets",
    "duckdb",
    "httpx",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "requests",
    "torch",
    "transformers",
}
MOST_MODULES = 45
COMES_WITH = {"pydantic_core": "pydantic"}

# The modules that an entry point adds: run in a bare interpreter of the same environment and compared with it.
BARE = "import sys; sys.stderr.write('\\n'.join(sys.modules))"
PACKAGE = "import sys, stillhouse; sys.stderr.write('\\n'.join(sys.modules))"
HELP = """
import sys
sys.argv = ['stillhouse', '--help']
from stillhouse.cli.main import main
try:
    main()
finally:
    sys.stderr.write('\\n'.join(sys.modules))
"""


def modules_of(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split("\n"))


def is_own(module: str) -> bool:
    return module.partition(".")[0] == "stillhouse"


@pytest.mark.parametrize("code", [PACKAGE, HELP], ids=["import stillhouse", "stillhouse --help"])
def test_the_entrances_are_light(code: str) -> None:
    added = modules_of(code) - modules_of(BARE)
    assert "stillhouse" in added
    assert not {module.partition(".")[0] for module in added} & HEAVY
    others = sorted(module for module in added if not is_own(module))
    assert len(others) <= MOST_MODULES, others


def test_naming_a_step_or_part_loads_nothing_heavy_but_pydantic() -> None:
    code = """
import sys
from importlib import import_module
from stillhouse.core.catalogue import catalogue
for entry in catalogue().values():
    import_module(entry.place.partition(':')[0])
sys.stderr.write('\\n'.join(sys.modules))
"""
    loaded = {module.partition(".")[0] for module in modules_of(code)}
    assert "stillhouse" in loaded
    assert loaded & HEAVY <= {"pydantic"}


def test_packages_import_in_one_direction() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "file", sorted(SOURCE.glob("*/**/__init__.py")), ids=lambda file: str(file.relative_to(SOURCE))
)
def test_a_package_is_only_a_docstring(file: Path) -> None:
    body = ast.parse(file.read_text()).body
    if file.parent.name == "tokens":  # its public names resolve when they are first used, as those of the root do
        loaded = [node.module for node in body if isinstance(node, ast.ImportFrom)]
        assert loaded == ["__future__", "importlib", "typing"]
        return
    assert [type(node) for node in body] == [ast.Expr]
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_type_checkers_and_python_see_the_same_public_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If)).body
    imports = {
        alias.asname: node.module for node in checked if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imports == stillhouse._HOME


@pytest.mark.parametrize("name", sorted(set(stillhouse.__all__)))
def test_a_public_name_resolves_to_what_it_says(name: str) -> None:
    value = getattr(stillhouse, name)
    assert name.startswith("__") or getattr(value, "__name__", name) == name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Distil'"):
        stillhouse.Distil  # type: ignore[attr-defined]


@cache
def declared() -> set[str]:
    """Names of the distributions that pyproject.toml asks for at run time, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra, lines in extras.items() if extra != "dev" for line in lines)]
    return {_normal(re.split(r"[^\w.-]", line)[0]) for line in wanted}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_library_that_is_imported_is_declared() -> None:
    by_module = metadata.packages_distributions()
    missing = {}
    for file in SOURCE.rglob("*.py"):
        for module in _imported(ast.parse(file.read_text())):
            names = {_normal(name) for name in [COMES_WITH.get(module, module), *by_module.get(module, [])]}
            if module not in sys.stdlib_module_names and module != "stillhouse" and not names & declared():
                missing[module] = str(file.relative_to(ROOT))
    assert missing == {}


ENGINES = {"vllm", "llama-cpp-python"}
"""They are built for one torch and one driver each, which our pins must not choose for a user, and are not run here."""


def test_every_library_that_is_declared_is_pinned() -> None:
    pinned = {
        _normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert declared() - pinned == ENGINES


def _imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()
    assert metadata.version("stillhouse") == stillhouse.__version__
