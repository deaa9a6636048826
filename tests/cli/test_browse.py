"""`show --rows`: the rows of a table, a page at a time."""

from __future__ import annotations

import json
import os
import re

import pytest

from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.rows.preview import visible
from tests.cli.shell import SEEDS, Shell
from tests.cli.test_run import ASKING, at_terminal


@pytest.fixture
def made(shell: Shell) -> Shell:
    """`recipe`: eight rows, of which one failed and one was dropped."""
    assert shell("run", "recipe.yaml", "--set", "numbered.fail=[3]", "--quiet").code == 3
    shell.write("numbers.yaml", (shell.folder / "recipe.yaml").read_text().replace("$clean\n", "$numbered\n"))
    changes = ("--set", "numbered.fail=[3]", "--set", "numbered.drop=[5]")
    assert shell("run", "numbers.yaml", *changes, "--quiet").code == 3
    return shell


def test_a_pipe_gets_a_plain_table_without_the_rest_of_the_result(made: Shell) -> None:
    done = made("show", "numbers", "--rows")
    lines = done.out.splitlines()
    assert lines[0].split() == ["_id", "input", "output", "number"]
    assert len(lines) == 2 + 6
    assert "\x1b" not in done.out
    assert done.err == ""


def test_conditions_columns_and_places(made: Shell) -> None:
    told = made("show", "numbers", "--where", "number > 2 -- and so on", "--columns", "number", "--json").json
    assert told == {"total": 4, "offset": 0, "rows": [{"number": number} for number in (4, 6, 7, 8)]}
    page = made("show", "numbers", "--limit", "2", "--offset", "1", "--columns", "number,_id", "--json").json
    assert [row["number"] for row in page["rows"]] == [2, 4]
    assert len(page["rows"][0]["_id"]) == 24
    cut = made("show", "numbers", "--limit", "2")
    assert "… and 4 more" in cut.err
    lines = made("show", "numbers", "--jsonl", "--columns", "number").out.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 4, 6, 7, 8]


def test_failed_and_dropped_rows(made: Shell) -> None:
    (failed,) = made("show", "numbers", "--failed", "--json").json["rows"]
    assert (failed["kind"], failed["message"], failed["raw"]) == ("invalid", "this number is cursed", "order number 3")
    assert "_place" not in failed
    (dropped,) = made("show", "numbers", "--dropped", "--json").json["rows"]
    assert dropped["reason"] == "unwanted number"
    assert made("show", "numbers", "--failed", "--where", "kind = 'cut'", "--json").json["total"] == 0
    assert made("show", "recipe", "--dropped").err == "no row was dropped\n"


def test_rows_that_failed_in_a_step_before_are_pointed_to(made: Shell) -> None:
    told = made("show", "recipe", "--failed").err
    assert told.startswith("no row failed in the last step; before it\n  1 in ")
    (key,) = re.findall(r"`stillhouse show (\w+) --failed`", told)
    (failed,) = made("show", key, "--failed", "--json").json["rows"]
    assert failed["message"] == "this number is cursed"


def test_one_row_in_full_with_what_it_comes_from(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    assert shell("run", "asking.yaml", "--quiet").code == 0
    row = shell("show", "asking", "--rows", "--json").json["rows"][3]
    shown = shell("show", "asking", "--row", row["_id"][:10])
    assert "reply   ORDER NUMBER 4" in shown.out
    assert "made by generate.prompt" in shown.out
    assert "answered" in shown.out
    assert "made by rows.import" in shown.out
    told = shell("show", "asking", "--row", row["_id"], "--json").json
    assert told["row"]["reply"] == "ORDER NUMBER 4"
    assert told["lineage"]["row"]["parents"][0]["content"] == SEEDS[3]
    assert "no row begins with `ffffff`" in shell("show", "asking", "--row", "ffffff").err


def test_what_cannot_be_is_said(made: Shell) -> None:
    assert "Did you mean `number`?" in made("show", "numbers", "--columns", "numbr").err
    assert made("show", "numbers", "--where", "numbr > 2").code == 1
    assert made("show", "numbers", "--where", "1=1) ; DROP VIEW the_rows; SELECT (1").code == 1
    assert made("show", "numbers", "--where", "1 = (SELECT count(*) FROM read_text('/etc/passwd'))").code == 1
    assert made("show", "numbers", "--failed", "--dropped").code == 2
    assert "-1 is below 0" in made("show", "numbers", "--offset", "-1").err


def test_values_cannot_write_to_the_terminal(shell: Shell) -> None:
    evil = "\x1b]0;title\x07\x1b[2Jred\rback \u202e turned"
    with Session(shell.folder / "out", progress=False, track=False) as session:
        session.run(Import(data=[{"input": evil, "output": "x"}]), name="evil")
    for words in (("--rows",), ("--row", ""), ("--rows", "--full"), ("--rows", "1"), ()):
        if words == ("--row", ""):
            words = ("--row", shell("show", "evil", "--rows", "--json").json["rows"][0]["_id"])
        done = shell("show", "evil", *words)
        assert done.code == 0
        assert not set(done.out) & {"\x1b", "\x07", "\r", "\u202e"}
        assert "\\x1b[2Jred" in done.out


def test_joined_emoji_and_other_scripts_stay_as_they_are() -> None:
    for text in ("naïve café", "日本語", "👩\u200d💻", "می\u200cخواهم"):
        assert visible(text) == text
    assert visible("a\nb") == "a⏎b"
    assert visible("\x9b31m") == "\\x9b31m"


def test_on_a_terminal_one_turns_pages_filters_and_looks_at_a_row(made: Shell) -> None:
    typed = "\nb\n2\n/number > 6\n/no such\n/\n99\nq\n"
    code, said = at_terminal(made, typed, "show", "numbers", "--limit", "4")
    assert code == 0
    pages = ["rows 1 to 4 of 6", "rows 5 to 6 of 6", "rows 1 to 4 of 6", "rows 1 to 2 of 2", "rows 1 to 4 of 6"]
    assert [line[: len("rows 1 to 4 of 6")] for line in said.splitlines() if line.startswith("rows ")][:4] == pages[:4]
    assert "made by test.numbered" in said
    assert "there are 6 rows" in said


def test_it_ends_after_the_last_page_and_when_nothing_more_is_typed(made: Shell) -> None:
    code, said = at_terminal(made, "\n\n\n", "show", "numbers", "--limit", "2")
    assert code == 0
    assert "rows 5 to 6 of 6" in said
    assert os.linesep in said
