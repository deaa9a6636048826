from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def made(shell: Shell) -> Shell:
    changes = ("--set", "numbered.fail=[3, 4]", "--set", "numbered.drop=[5]")
    shell("run", "recipe.yaml", "--name", "orders", *changes, "--quiet")
    return shell


def test_the_funnel_is_a_table_with_reasons(made: Shell) -> None:
    done = made("funnel", "orders")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split()[:6] == ["step", "in", "out", "dropped", "failed", "rows"]
    assert [line.split()[0] for line in lines[2:5]] == ["rows.import", "test.numbered", "curate.dedup"]
    assert "unwanted number (1), invalid (2)" in done.out


def test_programs_get_everything_and_may_leave_diversity_out(made: Shell) -> None:
    stages = made("funnel", "orders", "--json", "--column", "input").json
    assert [(stage["tag"], stage["rows_in"], stage["out"]) for stage in stages] == [
        ("rows.import/1", None, 8),
        ("test.numbered/1", 8, 5),
        ("curate.dedup/1", 5, 5),
    ]
    assert stages[1]["before"]["rows"] == 8
    assert stages[1]["after"]["looked at"] == 5
    assert made("funnel", "orders", "--json", "--no-diversity").json[1]["before"] is None


def test_a_picture_is_written_beside(made: Shell) -> None:
    done = made("funnel", "orders", "--svg", "funnel.svg")
    assert done.out.endswith("funnel.svg\n")
    assert ET.parse(made.folder / "funnel.svg").getroot().tag.endswith("svg")
    refused = made("funnel", "orders", "--svg", "nowhere/funnel.svg")
    assert (refused.code, "cannot be written" in refused.err) == (1, True)


def test_a_name_that_is_not_there_is_told(made: Shell) -> None:
    done = made("funnel", "ordres")
    assert done.code == 1
    assert "orders" in done.err
