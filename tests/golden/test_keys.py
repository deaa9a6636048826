"""The keys of steps and parts are promises: results found by them must be found tomorrow, elsewhere, by another Python.

`keys.json` holds the recipe key of a sample of each tag. When one changes, either the change was not meant, or the
number in the tag has to be raised; then `python -m tests.golden.update` writes the file anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.core.catalogue import catalogue, find_class
from stillhouse.core.keys import canonical, digest_of
from stillhouse.core.node import Node
from tests.golden.samples import SAMPLES, VALUES, key_of

KEYS = Path(__file__).with_name("keys.json")
ROOT = Path(__file__).parents[2]


def test_every_step_and_part_of_the_catalogue_has_a_sample() -> None:
    tags = {kind.tag for name in catalogue() if (kind := find_class(name)) is not None}
    assert {sample.tag for sample in SAMPLES} >= tags


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.tag)
def test_keys_are_as_they_were(sample: Node) -> None:
    known = json.loads(KEYS.read_text())
    tag = sample.tag
    assert known.get(tag) == key_of(sample), f"raise the number of `{tag}`, then python -m tests.golden.update"


def test_canonical_forms_are_as_they_were() -> None:
    known = json.loads(KEYS.read_text())["values"]
    assert known == {name: digest_of(canonical(value)) for name, value in VALUES.items()}


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_keys_are_the_same_in_another_process(seed: str) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "tests.golden.update", "--print"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(out) == json.loads(KEYS.read_text())
