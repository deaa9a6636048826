"""Commands that look at a store: show, trace, why, query, plot, export, calls, rm, pin, gc, doctor, list."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.cli.shell import SEEDS, Shell
from tests.cli.test_run import ASKING

ROW_ID = re.compile(r"[0-9a-f]{24,}")


@pytest.fixture
def made(shell: Shell) -> Shell:
    """A shell whose store holds `orders`: two rows of eight failed, one was dropped."""
    done = shell(
        "run",
        "recipe.yaml",
        "--name",
        "orders",
        "--set",
        "numbered.fail=[3, 4]",
        "--set",
        "numbered.drop=[5]",
        "--quiet",
    )
    assert done.code == 3
    return shell


def test_show_lists_the_names(made: Shell) -> None:
    (entry,) = made("show", "--json").json
    assert (entry["name"], entry["kind"], entry["rows"], entry["pinned"]) == ("orders", "Rows", 5, False)
    assert made("show").out.splitlines()[1].split()[:3] == ["orders", "Rows", "5"]


def test_show_tells_the_funnel_with_reasons_and_the_first_rows(made: Shell) -> None:
    done = made("show", "orders", "--rows", "2")
    assert done.code == 0
    numbered = next(line for line in done.out.splitlines() if line.startswith("test.numbered"))
    assert numbered.split()[1:5] == ["8", "5", "1", "2"]
    assert numbered.endswith("unwanted number (1), invalid (2)")
    assert "order number 2" in done.out
    assert "order number 6" not in done.out


def test_show_gives_everything_to_programs(made: Shell) -> None:
    shown = made("show", "orders", "--json").json
    assert [entry["out"] for entry in shown["funnel"]] == [8, 5, 5]
    assert shown["columns"] == ["input", "output", "number"]
    assert [row["number"] for row in shown["rows"]] == [1, 2, 6, 7, 8]
    assert shown["definition"]["uses"] == "curate.dedup/1"
    by_key = made("show", shown["key"][:8], "--json").json
    assert by_key == shown


def test_show_full_does_not_cut(made: Shell) -> None:
    made.write("long.jsonl", json.dumps({"input": "x" * 500, "output": "1"}) + "\n")
    made("run", "recipe.yaml", "--set", "seeds.path=long.jsonl", "--name", "long", "--quiet")
    assert "x" * 500 not in made("show", "long").out
    assert "x" * 500 in made("show", "long", "--full").out


def test_an_output_of_several_is_shown_and_exported_by_name(shell: Shell) -> None:
    seeds, split = "{uses: rows.import, path: seeds.jsonl}", "{uses: rows.split, rows: $seeds, test_size: 3}"
    shell.write("recipe.yaml", f"nodes:\n  seeds: {seeds}\n  split: {split}\nresult: $split\n")
    assert "train 5, test 3" in shell("run", "recipe.yaml", "--quiet").out
    assert len(shell("show", "recipe", "--output", "test", "--json").json["rows"]) == 3
    assert "has no output `tests`" in shell("show", "recipe", "--output", "tests").err
    several = shell("export", "recipe", "all.jsonl")
    assert (several.code, "train, test" in several.err) == (1, True)
    assert shell("export", "recipe", "test.csv", "--output", "test").out == "3 rows in test.csv\n"


@pytest.mark.parametrize("command", [["show"], ["why"], ["export", "x.csv"], ["rm"], ["pin"]])
def test_an_unknown_name_is_told_with_the_nearest(made: Shell, command: list[str]) -> None:
    done = made(command[0], "order", *command[1:])
    assert done.code == 1
    assert done.err == "RecipeError: there is no `order` in `out`\n  Did you mean `orders`?\n"


def test_a_folder_that_is_no_session_is_told_with_those_that_are(made: Shell) -> None:
    for command in (["show"], ["trace", "123456"], ["query", "SELECT 1"], ["gc"], ["calls"], ["plot", "loss"]):
        done = made(*command, "--folder", "outs")
        assert done.code == 1
        assert done.err.startswith("StoreError: `outs` is not a session folder\n")
        assert "Session folders here: out." in done.err
    assert not (made.folder / "outs").exists()


def test_trace_walks_from_a_row_to_its_seed_and_the_call_that_made_it(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    shell("run", "asking.yaml", "--quiet")
    row = shell("show", "asking", "--json").json["rows"][2]
    found = shell("trace", row["_id"][:10], "--json").json["row"]
    assert found["id"] == row["_id"]
    assert found["step"] == "generate.prompt/1"
    assert found["content"]["reply"] == "ORDER NUMBER 3"
    assert "order number 3" in found["calls"][0]["request"]
    assert "ORDER NUMBER 3" in found["calls"][0]["reply"]
    (seed,) = found["parents"]
    assert (seed["step"], seed["content"]["input"], seed["parents"]) == ("rows.import/1", "order number 3", [])
    backwards = shell("trace", seed["id"], "--json").json
    assert [child["id"] for child in backwards["children"]] == [row["_id"]]
    told = shell("trace", row["_id"])
    assert "made by generate.prompt" in told.out
    assert "made by rows.import" in told.out
    assert "  answered " in told.out


@pytest.mark.parametrize(
    ("row", "message"),
    [("12", "`12` is too short for a row id"), ("ffffffffffff", "no row begins with `ffffffffffff`")],
)
def test_trace_says_what_it_cannot_find(made: Shell, row: str, message: str) -> None:
    done = made("trace", row)
    assert done.code == 1
    assert message in done.err


def test_why_tells_the_fields_that_differ(made: Shell) -> None:
    assert made("why", "orders").out == "curate.dedup/1: the first of its kind\n"
    changed = made("why", "recipe.yaml", "--set", "numbered.fail=[3, 4]", "--set", "clean.threshold=0.5", "--json").json
    assert {entry["step"] for entry in changed} == {"test.numbered/1", "curate.dedup/1"}
    dedup = next(entry for entry in changed if entry["step"] == "curate.dedup/1")
    assert {"field": "threshold", "before": None, "now": 0.5} in dedup["differences"]
    made("run", "recipe.yaml", "--name", "orders", "--quiet")
    by_name, by_step = made("why", "orders").out, made("why", "curate.dedup").out
    assert "rows.fail: [3, 4] → (default)" in by_name
    assert "rows.drop: [5] → (default)" in by_name
    assert by_name == by_step
    assert made("why", "recipe.yaml").out == "everything is made; nothing differs\n"


def test_why_looks_at_one_node(made: Shell) -> None:
    same = ("--set", "numbered.fail=[3, 4]", "--set", "numbered.drop=[5]")
    done = made("why", "recipe.yaml", "numbered", *same, "--set", "clean.threshold=0.1")
    assert done.out == "test.numbered/1: is made already\n"
    wrong = made("why", "recipe.yaml", "numberd")
    assert "Its nodes: seeds, numbered, clean." in wrong.err


def test_query_reads_as_table_json_and_csv(made: Shell) -> None:
    sql = "SELECT reason, count(*) AS num FROM dropped GROUP BY ALL"
    assert made("query", sql).out.splitlines()[1].split() == ["unwanted", "number", "1"]
    assert made("query", sql, "--json").json == [{"reason": "unwanted number", "num": 1}]
    assert list(csv.reader(io.StringIO(made("query", sql, "--csv").out))) == [
        ["reason", "num"],
        ["unwanted number", "1"],
    ]


def test_query_says_when_it_shows_not_everything(made: Shell) -> None:
    done = made("query", "SELECT id FROM rows", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "more rows than 2" in done.err


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE runs",
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT 1; SELECT 2",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "SET enable_external_access=true",
        "SELEKT 1",
    ],
)
def test_query_only_reads_and_only_the_store(made: Shell, sql: str) -> None:
    done = made("query", sql)
    assert done.code == 1
    assert done.err.startswith("RecipeError: ")
    assert done.out == ""
    assert not (made.folder / "stolen.csv").exists()


def test_a_metric_is_drawn_and_given_as_numbers(shell: Shell) -> None:
    shell.write("curve.py", CURVE)
    shell.write("recipe.yaml", "nodes: {curve: {uses: 'curve:Curve'}}\nresult: $curve\n")
    assert shell("run", "recipe.yaml", "--quiet").code == 0
    (curve,) = shell("plot", "loss", "--json").json
    assert curve["values"] == [1.0, 0.5, 0.25]
    assert "loss" in shell("plot", "loss").out
    assert shell("plot", "loss", "--png", "loss.png").out == "loss.png\n"
    assert (shell.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing logged a metric `los`" in shell("plot", "los").err


CURVE = """
from stillhouse.core.artifact import Files
from stillhouse.core.step import Step

class Curve(Step[Files], tag="test.curve/1"):
    def run(self, context):
        for step in range(3):
            context.log(step, loss=0.5 ** step)
        context.folder
"""


@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
def test_rows_are_exported_and_read_back(made: Shell, extension: str) -> None:
    done = made("export", "orders", f"rows.{extension}", "--json")
    assert done.json == {"path": f"rows.{extension}", "rows": 5}
    back = f"nodes: {{back: {{uses: rows.import, path: rows.{extension}}}}}\nresult: $back\n"
    made.write("back.yaml", back)
    assert made("run", "back.yaml", "--json", "--quiet").json["counts"]["out"] == 5


def test_an_export_of_another_kind_of_file_is_refused(made: Shell) -> None:
    assert "Name a file that ends in" in made("export", "orders", "rows.xlsx").err


def test_calls_counts_the_cache(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    shell("run", "asking.yaml", "--quiet")
    found = shell("calls", "--json").json
    assert found["calls"] == len(SEEDS)
    assert found["size_bytes"] > 0
    assert shell("calls").out.startswith("calls  8\n")


def test_gc_removes_only_what_no_name_reaches_and_a_dry_run_nothing(made: Shell) -> None:
    before = made("show", "orders", "--json").json["key"]
    made("run", "recipe.yaml", "--name", "orders", "--quiet")
    artifacts = made.folder / "out" / "artifacts-v1"
    everything = set(artifacts.glob("*/*"))
    dry = made("gc", "--all", "--dry-run", "--json").json
    assert dry["removed"] is False
    assert set(artifacts.glob("*/*")) == everything
    assert before in {Path(item["path"]).name for item in dry["items"]}
    assert made("gc").out == "0 B freed\n"
    assert set(artifacts.glob("*/*")) == everything
    done = made("gc", "--all", "--json").json
    assert done["items"] == dry["items"]
    assert set(artifacts.glob("*/*")) == everything - {made.folder / item["path"] for item in dry["items"]}
    again = made("run", "recipe.yaml", "--name", "orders", "--json", "--quiet").json
    assert again["steps_made"] == 0


def test_a_pinned_result_outlives_its_name(made: Shell) -> None:
    key = made("show", "orders", "--json").json["key"]
    assert made("pin", "orders", "--json").json == {"name": "orders", "pinned": [key]}
    made("run", "recipe.yaml", "--name", "orders", "--quiet")
    made("gc", "--all")
    assert made("show", key, "--json").code == 0
    refused = made("rm", "orders")
    assert (refused.code, "is pinned" in refused.err) == (1, True)


def test_a_forgotten_name_frees_its_result(made: Shell) -> None:
    key = made("show", "orders", "--json").json["key"]
    assert made("rm", "orders").code == 0
    assert made("show", key).code == 0
    made("gc", "--all")
    assert made("show", key).code == 1
    assert not (made.folder / "out" / "orders").is_symlink()


def test_nothing_is_forgotten_when_one_of_the_names_is_unknown(made: Shell) -> None:
    assert made("rm", "orders", "others").code == 1
    assert made("show", "orders").code == 0


def test_doctor_names_keys_but_never_shows_them(made: Shell) -> None:
    made.env = {"OPENAI_API_KEY": "sk-secret"}
    done = made("doctor", "--json")
    assert done.code == 0
    keys = next(finding for finding in done.json if finding["what"] == "keys")
    assert keys["text"].startswith("set: OPENAI_API_KEY; not set: ")
    assert "sk-secret" not in done.out + done.err
    assert {"stillhouse", "python", "core", "disk", "artifacts"} <= {finding["what"] for finding in done.json}


def test_doctor_finds_torn_journals_and_damaged_caches(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    shell("run", "asking.yaml", "--quiet")
    begun = shell.folder / "out" / "work-v1" / ("0" * 32) / "scratch" / "chunks"
    begun.mkdir(parents=True)
    (begun / "journal.jsonl").write_bytes(b'00000000 {"torn')
    cache = shell.folder / "out" / "calls-v1" / "calls.sqlite"
    for extra in cache.parent.glob("calls.sqlite-*"):
        extra.unlink()
    cache.write_bytes(b"no database")
    done = shell("doctor", "--json")
    assert done.code == 1
    states = {finding["what"]: finding["state"] for finding in done.json}
    assert (states["journal"], states["calls"], states["work"]) == ("note", "problem", "note")


def test_doctor_changes_nothing_in_a_folder_that_is_not_there(shell: Shell) -> None:
    done = shell("doctor", "--folder", "nowhere")
    assert done.code == 0
    assert "`nowhere` is not a session folder yet" in done.out
    assert not (shell.folder / "nowhere").exists()


def test_list_tells_all_a_family_and_one(shell: Shell) -> None:
    everything = shell("list", "--json").json
    assert {"rows.import", "curate.dedup", "measure.exact_match"} <= set(everything)
    assert set(shell("list", "rows", "--json").json) == {name for name in everything if name.startswith("rows.")}
    one = shell("list", "curate.dedup", "--json").json
    assert (one["tag"], one["makes"]) == ("curate.dedup/1", "Rows")
    assert one["fields"][0] == {"name": "rows", "type": "Step[Rows]", "required": True, "default": None, "help": None}
    assert "threshold" in shell("list", "curate.dedup").out
    assert "Did you mean `curate.dedup`?" in shell("list", "curate.dedpu").err
