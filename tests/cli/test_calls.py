"""`stillhouse calls`: list, show, export, prune, as someone at a shell meets it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from stillhouse.core.store import Store
from tests.cli.shell import SEEDS, Shell
from tests.cli.test_run import ASKING


@pytest.fixture
def asked(shell: Shell) -> Shell:
    """A folder whose cache holds a call for each seed."""
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    assert shell("run", "asking.yaml", "--quiet").code == 0
    return shell


def age_by(shell: Shell, hours: int) -> None:
    with closing(sqlite3.connect(shell.folder / "out" / "calls-v1" / "calls.sqlite")) as writer:
        writer.execute("UPDATE replies SET made = made - ?", (hours * 3_600_000,))
        writer.commit()


def lines(shell: Shell, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in shell("calls", "list", "--json", *words).out.splitlines()]


def test_sums_by_model(asked: Shell) -> None:
    found = asked("calls", "--json").json
    (model,) = found["models"]
    assert (found["calls"], model["model"], model["calls"], model["cost_usd"]) == (8, "python:steps", 8, 0.0)
    assert set(model["seconds"]) == {"p50", "p90", "p99"}
    assert asked("calls", "stats").out == asked("calls").out
    assert "python:steps" in asked("calls").out


def test_calls_are_listed_newest_first_and_filtered(asked: Shell) -> None:
    everything = lines(asked)
    assert len(everything) == len(SEEDS)
    assert {"key", "made", "model", "made_for", "cost_usd", "seconds", "text", "asked", "ended"} <= set(everything[0])
    assert [call["text"] for call in lines(asked, "--text", "order number 3")] == ["ORDER NUMBER 3"]
    assert len(lines(asked, "--limit", "2")) == 2
    assert len(lines(asked, "--model", "steps", "--name", "asking", "--since", "1h", "--ended", "ok")) == len(SEEDS)
    assert (
        lines(asked, "--model", "gpt") == lines(asked, "--since", "2100-01-01") == lines(asked, "--ended", "cut") == []
    )
    table = asked("calls", "list", "--limit", "3")
    assert len(table.out.splitlines()) == 4
    assert "`--limit N` shows more" in table.err
    assert asked("calls", "list", "--name", "generate.prompt").out.count("python:steps") == len(SEEDS)
    assert "no result and no step is called `nobody`" in asked("calls", "list", "--name", "nobody").err
    assert "neither an age" in asked("calls", "list", "--since", "yesterday").err


def test_a_call_is_shown_with_what_it_made(asked: Shell) -> None:
    key = str(lines(asked, "--text", "order number 3")[0]["key"])
    done = asked("calls", "show", key[:10])
    assert done.code == 0
    assert "── user\norder number 3" in done.out
    assert "── reply\nORDER NUMBER 3" in done.out
    assert "1 rows came from it" in done.out
    found = asked("calls", "show", key, "--json").json
    assert [row["step"] for row in found["rows"]] == ["generate.prompt/1"] or len(found["rows"]) == 1
    assert found["request"]["messages"][-1]["content"] == "order number 3"
    row = asked("trace", found["rows"][0]["id"], "--json").json["row"]
    assert row["calls"][0]["key"] == key
    assert "no call begins with `ffffff`" in asked("calls", "show", "ffffff").err
    assert "Give at least six" in asked("calls", "show", "xyz").err


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_an_export_holds_requests_and_replies_without_what_is_taken_out(shell: Shell, extension: str) -> None:
    rows = [{"input": f"mail ann{n}@shop.example for order {n}", "output": str(n)} for n in range(3)]
    shell.write("seeds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    shell("run", "asking.yaml", "--quiet")
    file = f"calls.{extension}"
    done = shell("calls", "export", file, "--redact", "email", "--redact", r"(?i)order \d", "--json")
    assert done.json["calls"] == 3
    path = shell.folder / file
    if extension == "jsonl":
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        found = pq.read_table(path).to_pylist()
    assert {call["text"] for call in found} == {"MAIL [email] FOR [redacted]"}
    assert {json.loads(call["request"])["messages"][-1]["content"] for call in found} == {"mail [email] for [redacted]"}
    assert "shop.example" not in json.dumps(found).lower()
    assert "ends neither in" in shell("calls", "export", "calls.csv").err
    assert "no regular expression" in shell("calls", "export", file, "--redact", "(").err


def test_pruning_says_first_and_removes_on_request(asked: Shell) -> None:
    assert asked("calls", "prune").code == 2
    assert "0 calls" in asked("calls", "prune", "--older-than", "1d").out
    age_by(asked, 48)
    dry = asked("calls", "prune", "--older-than", "1d")
    assert "8 calls" in dry.out
    assert "`--yes` removes them" in dry.out
    assert asked("calls", "prune", "--unreferenced", "--json").json["calls"] == 0
    assert asked("calls", "prune", "--max-size", "1kB", "--json").json["calls"] == 0
    assert len(lines(asked)) == 8
    done = asked("calls", "prune", "--older-than", "1d", "--yes", "--json").json
    assert (done["removed"], done["calls"], done["models"][0]["referenced"]) == (True, 8, 8)
    assert lines(asked) == []
    assert "call " in asked("trace", asked("query", "SELECT id FROM rows LIMIT 1", "--csv").out.split()[1]).out


def test_calls_made_before_the_build_key_was_known_stand_with_the_others_of_their_step(asked: Shell) -> None:
    record = next(record for record in Store(asked.folder / "out").records() if record["tag"] == "generate.prompt/1")
    with closing(sqlite3.connect(asked.folder / "out" / "calls-v1" / "calls.sqlite")) as writer:
        ((number,),) = writer.execute("SELECT id FROM words WHERE text = ?", (record["build_key"],)).fetchall()
        writer.execute("INSERT INTO words VALUES (?, ?)", (number + 100, record["recipe_key"]))
        writer.execute("UPDATE replies SET step = ? WHERE id % 2", (number + 100,))
        writer.execute(
            "INSERT INTO spending SELECT day, model, ?, batch, 2, 1, 1, 1, 1, 1, 0, 1 FROM spending", (number + 100,)
        )
        writer.commit()

    for name in ("asking", "generate.prompt"):
        assert len(lines(asked, "--name", name)) == len(SEEDS)
    (call,) = lines(asked, "--text", "order number 1")
    assert f"generate.prompt ({record['build_key'][:12]})" in asked("calls", "show", str(call["key"])).out
    (entry,) = asked("money", "--by", "step", "--json").json["sums"]
    assert (entry["made_for"], entry["calls"]) == (record["build_key"], len(SEEDS) + 2)


def test_failed_attempts_are_listed(shell: Shell) -> None:
    failing = "\n\ndef fails(messages, schema, sample):\n    raise RowFault('refused', 'I would rather not')\n"
    shell.write("steps.py", (shell.folder / "steps.py").read_text() + failing)
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps:fails"'))
    assert shell("run", "asking.yaml", "--quiet").code == 1
    failed = lines(shell, "--ended", "failed")
    assert {(trouble["cause"], trouble["message"]) for trouble in failed} == {("refused", "I would rather not")}
    assert "I would rather not" in shell("calls", "list", "--ended", "failed").out
    assert shell("calls", "list").err.strip() == "no call is kept that fits"
