"""Batch jobs and money at a shell: submit and leave, look, come back, cancel, add up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.calls.batch_server import BatchServer
from tests.cli.shell import SEEDS, Shell

RECIPE = """\
session:
  endpoints:
    house: URL
  prices:
    house: [100.0, 100.0]
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  asked:
    uses: generate.prompt
    rows: $seeds
    template: "{{ input }}"
    by: {uses: calls.ask, model: openai/teacher, deployment: house, max_tokens: 1000}
result: $asked
"""
WAITING = 4


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as server:
        yield server


@pytest.fixture
def house(shell: Shell, server: BatchServer) -> Shell:
    shell.write("asking.yaml", RECIPE.replace("URL", server.url))
    return shell


RUN = ("run", "asking.yaml", "--batch", "--yes", "--quiet")


def test_submit_leave_look_come_back(house: Shell, server: BatchServer) -> None:
    left = house(*RUN)
    assert left.code == WAITING
    assert "8 requests wait in 1 batch job" in left.err
    assert "stillhouse run asking.yaml --batch --yes --quiet" in left.err
    assert "8 requests wait" in house(*RUN, "--json").json["waiting"]["message"]
    (job,) = house("batches", "--json").json
    assert (job["state"], job["num"], job["done"], job["remote"]) == ("running", 8, 0, "batch_0")
    server.finish()
    assert house("batches").err.count("8 of 8 replies are kept") == 1
    assert house("batches", "--json").json == []
    assert "ended" in house("batches", "--all", "--offline").out
    done = house(*RUN, "--json")
    assert (done.code, done.json["counts"]["out"]) == (0, len(SEEDS))
    assert server.live == []
    assert house("batches", "--json", "--folder", "out", "--offline").json == []


def test_waiting_for_the_jobs(house: Shell, server: BatchServer) -> None:
    server.done = True
    recipe = (house.folder / "asking.yaml").read_text().replace("session:\n", "session:\n  batch: {poll: 0.02}\n")
    house.write("asking.yaml", recipe)
    assert house("run", "asking.yaml", "--wait", "--yes", "--quiet").code == 0
    assert (len(server.batches), server.live) == (1, [])


def test_a_job_is_cancelled_and_what_came_of_it_kept(house: Shell, server: BatchServer) -> None:
    house(*RUN)
    (job,) = house("batches", "--json").json
    assert house("batches", "cancel").code == 2
    assert "no batch job begins with `zzz`" in house("batches", "cancel", "zzz").err
    server.doing = lambda text, tries: "twice" if text.endswith("3") else "answer"  # that one was answered by then
    done = house("batches", "cancel", job["id"][:6])
    assert done.code == 0
    assert "cancelled" in done.out
    assert next(iter(server.batches.values())).state == "cancelled"
    assert house("run", "asking.yaml", "--yes", "--quiet").code == 0
    assert sorted(server.live) == [row["input"] for row in SEEDS if row["input"] != "order number 3"]


def test_a_preview_is_asked_live(house: Shell, server: BatchServer) -> None:
    assert house("run", "asking.yaml", "--batch", "--quiet", "--preview", "2").code == 0
    assert (len(server.live), len(server.batches)) == (2, 0)


def test_a_folder_without_jobs(shell: Shell) -> None:
    shell("run", "recipe.yaml", "--quiet")
    assert shell("batches", "--json").json == []
    assert "no batch jobs here" in shell("batches").err


def test_money_by_day_model_and_step(house: Shell, server: BatchServer) -> None:
    house("run", "asking.yaml", "--yes", "--quiet", "--limit", "3")
    house(*RUN)
    server.finish()
    house(*RUN)
    found = house("money", "--json", "--by", "step", "--by", "model").json
    assert found["total"]["calls"] == len(SEEDS)
    assert found["total"]["batch"] == len(SEEDS) - 3
    assert found["total"]["cost_usd"] == pytest.approx(3 * 0.2 + 5 * 0.1)
    assert found["today"] == found["total"]
    assert {(entry["model"], entry["calls"]) for entry in found["sums"]} == {("house", 3), ("house", 5)}
    table = house("money").out
    assert "house" in table
    assert "$1.10 in all" in table
    assert house("money", "--since", "2100-01-01", "--json").json["total"]["calls"] == 0
    house("calls", "prune", "--older-than", "1m", "--all", "--yes")
    assert house("money", "--json").json["total"] == found["total"]


def test_calls_without_a_price_are_told_of(house: Shell) -> None:
    recipe = (house.folder / "asking.yaml").read_text()
    house.write("asking.yaml", recipe.replace("  prices:\n    house: [100.0, 100.0]\n", ""))
    run = house("run", "asking.yaml", "--yes", "--quiet")
    assert run.code == 0
    done = house("money")
    assert "8 calls are not in it, as no price is known of house" in done.err
    assert house("money", "--json").json["total"]["unpriced"] == 8


def test_budgets_of_the_command_line(house: Shell, server: BatchServer) -> None:
    day = house("run", "asking.yaml", "--yes", "--quiet", "--budget-per-day", "0.7", "--concurrency", "1")
    assert (day.code, len(server.live)) == (1, 3)
    assert "the day's budget of $0.7" in day.err
    step = house("run", "asking.yaml", "--yes", "--quiet", "--budget-per-step", "0.9", "--concurrency", "1")
    assert (step.code, len(server.live)) == (1, 4)
    batch = house(*RUN, "--budget", "0.1")
    assert (batch.code, len(server.batches)) == (1, 0)
    assert house("run", "asking.yaml", "--yes", "--quiet", "--budget-per-day", "100").code == 0
    assert len(server.live) == len(SEEDS)


def test_a_setting_of_batching_that_is_none_is_said(house: Shell) -> None:
    recipe = (house.folder / "asking.yaml").read_text()
    house.write("asking.yaml", recipe.replace("session:\n", "session:\n  batch: sometimes\n"))
    assert 'Write True, "wait", False' in house("plan", "asking.yaml").err
    house.write("asking.yaml", recipe.replace("session:\n", "session:\n  batch: {pol: 3}\n"))
    assert "Did you mean `poll`?" in house("plan", "asking.yaml").err
    assert json.loads(house("plan", "asking.yaml", "--json").out)["error"]
