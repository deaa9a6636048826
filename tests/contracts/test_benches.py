"""The benches: each is one command of the same form, and their page is made from what they print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "bench"
BENCHES = sorted(path.stem for path in FOLDER.glob("[!_]*.py") if path.stem != "all")
SOURCE = Path(__file__).parents[2] / "src"
DEFINED = r'^\s*(?:async )?(?:def|class) {0}\b|^{0}\b[^\n=]*=|import [^\n]*\b{0}\b|"{0}"|^    {0},$'
FIELDS = ["name", "value", "unit", "reference", "reference_value", "ratio", "better"]


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_what_it_measures_and_takes_the_usual_options(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()  # to run each would load torch for some
    assert text.startswith('"""')
    assert '"--json"' in text
    assert '"--quick"' in text


@pytest.mark.parametrize("name", [path.stem for path in sorted(FOLDER.glob("*.py"))])
def test_what_a_bench_takes_from_the_package_is_there(name: str) -> None:
    """Also what stands in the programs that a bench starts; nothing is imported for it."""
    text = (FOLDER / f"{name}.py").read_text()
    for module, names in re.findall(r"from (stillhouse[\w.]*) import (\([^)]*\)|[^\n;\"']+)", text):
        place = SOURCE / module.replace(".", "/")
        source = (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
        for word in re.findall(r"(\w+)(?: as \w+)?", names.partition("#")[0]):
            found = (place / f"{word}.py").exists() or re.search(DEFINED.format(word), source, re.MULTILINE)
            assert found, f"{module} has no {word}"


def test_a_bench_prints_one_object_a_line() -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "import_time.py", "--json", "--quick"], capture_output=True, text=True, check=True
    )
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(entries) > 4
    for entry in entries:
        assert list(entry) == FIELDS
        assert entry["better"] in ("higher", "lower")
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["reference_value"], rel=0.1, abs=0.01)


def test_the_page_shows_what_was_measured_and_what_failed() -> None:
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bench_all", sys.argv[1])
module = sys.modules["bench_all"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
entry = {"name": "a | b", "value": 12345.6, "unit": "rows/s", "reference": "limit", "reference_value": 0.5,
         "ratio": 24691.2, "better": "higher"}
here, there = ("day", "this machine", "x 1"), ("day", "another machine", "x 2")
good = module.Ran("good", "What it is.", [entry], 3.2, None, True, *here)
more = module.Ran("more", "What else.", [entry], 3.2, None, False, *here)
bad = module.Ran("bad", "Another.", [], 1.0, "ValueError: no", False, *there)
print(module.page([good, more, bad], ["good", "last"]))
"""
    done = subprocess.run([sys.executable, "-c", code, FOLDER / "all.py"], capture_output=True, text=True, check=True)
    assert "| a \\| b | 12,346 | rows/s | limit | 0.5 | 24,691 | ↑ |" in done.stdout
    assert "## bad" in done.stdout
    assert "ValueError: no" in done.stdout
    assert "`python bench/good.py --json --quick`, 3 s, day.\n" in done.stdout
    assert "`python bench/more.py --json`, 3 s, day.\n" in done.stdout
    assert "`python bench/bad.py --json`, 1 s, day. another machine. x 2.\n" in done.stdout
    assert "say otherwise: this machine. x 1." in done.stdout
    assert "Without a result here: `last`.\n" in done.stdout
