"""`stillhouse distill`: the whole road from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from stillhouse.cli import distill
from stillhouse.cli.main import main
from stillhouse.cli.parser import Parser
from stillhouse.train.finetune import Finetune
from tests.cli.shell import Shell

ROOT = Path(__file__).parents[2]
WORDS = (
    "--instruction", "Turn what a guest says into the order as JSON.",
    "--teacher", "python:examples.orders.teacher",
    "--student", "scratch:vocab_size=400,hidden=32,layers=1,heads=2",
    "--factor", "2",
    "--held-out", "test.jsonl",
    "--response-model", "examples.orders.schema:Order",
    "--verify", "examples.orders.schema:verify",
    "--max-tokens", "16",
    "--set", "finetune.epochs=1",
    "--set", "seeds_only.epochs=1",
    "--device", "cpu",
    "--threads", "1",
)  # fmt: skip


def some_lines(source: str, num: int) -> str:
    return "".join((ROOT / "examples" / "orders" / source).read_text().splitlines(keepends=True)[:num])


@pytest.fixture
def orders(shell: Shell) -> Shell:
    """A shell beside the orders example, with few rows."""
    shell.env = {"PYTHONPATH": str(ROOT)}
    shell.write("seeds.jsonl", some_lines("seeds.jsonl", 12))
    shell.write("test.jsonl", some_lines("test.jsonl", 6))
    return shell


@pytest.mark.dear
@pytest.mark.timeout(600)
def test_distil_makes_a_folder_to_talk_to_and_does_nothing_twice(orders: Shell) -> None:
    first = orders("distill", "--name", "orders", "--seed", "seeds.jsonl", *WORDS, "--json")
    assert first.code in (0, 3), first.err
    made = first.json
    assert made["folder"] == "outputs/orders"
    assert made["cost_usd"] == 0.0
    assert made["metrics"]["num_items"] == 6
    folder = orders.folder / "outputs" / "orders"
    for name in ("traces_cot.jsonl", "traces_amplified.jsonl", "task_policy.json", "metrics.json", "report.html"):
        assert (folder / name).is_file()
    assert json.loads((folder / "metrics.json").read_text()) == made["metrics"]
    assert "generate.amplify" in first.err
    assert "train.finetune" in first.err

    again = orders("distill", "--name", "orders", "--seed", "seeds.jsonl", *WORDS, "--json", "--quiet")
    assert again.json["steps_made"] == 0
    assert again.json["metrics"] == made["metrics"]

    resolved = orders("run", "outputs/orders/recipe.yaml", "--json", "--quiet")
    assert (resolved.json["name"], resolved.json["path"].split("/")[0]) == ("orders", "outputs")
    assert resolved.json["steps_made"] == 0

    replied = orders("chat", "outputs/orders", "--max-tokens", "4", "--json", stdin="a latte\n")
    assert json.loads(replied.out)["input"] == "a latte"


def test_a_key_goes_with_an_endpoint(orders: Shell) -> None:
    done = orders("distill", "--name", "orders", "--seed", "seeds.jsonl", *WORDS, "--api-key-variable", "LAB_KEY")
    assert (done.code, "goes with `--endpoint`" in done.err) == (2, True)
    lab = ("--teacher", "lab/teacher", "--endpoint", "http://localhost:9/v1", "--api-key-variable", "LAB_KEY", "--yes")
    done = orders("distill", "--name", "orders", "--seed", "seeds.jsonl", *WORDS, *lab)
    assert (done.code, "`LAB_KEY` is not set" in done.err) == (1, True)


@pytest.mark.dear
@pytest.mark.timeout(600)
def test_a_few_rows_go_the_whole_road(orders: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finetune, "isolated", False)  # saves the seconds that two new processes take to import torch
    orders.write("distill.py", RECIPE)
    orders.write("recipe.yaml", "recipe: distill:road\n")
    done = orders("run", "recipe.yaml", "--limit", "5", "--json", "--quiet")
    assert done.code in (0, 3), done.err
    shown = orders("show", "recipe-first-5", "--json").json
    sources = [entry["out"] for entry in shown["funnel"] if entry["step"] == "rows.take/1"]
    assert sources == [5, 5]
    amplified = next(entry["out"] for entry in shown["funnel"] if entry["step"] == "generate.amplify/1")
    assert amplified <= 5


RECIPE = """
from stillhouse.recipes.distillation import distillation
from stillhouse.recipes.scratch import Scratch
from examples.orders.schema import Order

def road():
    return distillation(
        "seeds.jsonl", "Turn it into JSON.", "python:examples.orders.teacher",
        Scratch(vocab_size=400, hidden=32, layers=1, heads=2), 50,
        response_model=Order, held_out="test.jsonl", max_tokens=16,
    ).report
"""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "finetun.epochs=1"], 1, "there is nothing called `finetun` to change\n  Did you mean `finetune`?"),
        (["--set", "finetune.epoch=1"], 1, "`epoch` is not a field of `Finetune`\n  Did you mean `epochs`?"),
        (["--difficulty", "easy"], 2, "`easy` is no mix; write it as `easy=0.3,medium=0.5,hard=0.2`"),
        (["--difficulty", "easy=0.3,hard=0.3"], 1, "the shares add up to 0.6, expected 1 (easy 0.3, hard 0.3)"),
        (["--steer", "colours"], 1, "Amplify: `steer.0`"),
        (["--clusters", "one"], 2, "`one` is neither `auto` nor a number above 1"),
        (["--set", "finetune=1"], 2, "`--set finetune=1` sets nothing"),
        (["--seed", "seed.jsonl"], 1, "there is no file `seed.jsonl`\n  Did you mean `seeds.jsonl`?"),
        (["--student", "scratch:layer=1"], 1, "`layer` is not a field of `Scratch`\n  Did you mean `layers`?"),
        (["--teacher", "gpt-4o"], 1, "`gpt-4o` names no model; write `provider/name`"),
        (["--teacher", "openaj/gpt-4o", "--yes"], 1, "no provider is called `openaj`"),
        (["--response-model", "nowhere:Order"], 1, "there is no module `nowhere`"),
        (["--name", "../orders"], 1, "`../orders` cannot be a name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    orders: Shell,
    words: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(orders.folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    found = main(["distill", "--name", "orders", "--seed", "seeds.jsonl", *WORDS, *words])
    assert message in capsys.readouterr().err
    assert found == code
    assert not list((orders.folder / "outputs").glob("artifacts-v1/*"))


def test_what_new_inputs_are_to_cover_is_said_in_plain_words(orders: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(orders.folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    words = ("--difficulty", "easy=0.3,medium=0.7", "--steer", "patterns,lengths", "--clusters", "auto")
    parser = Parser("distill", "x")
    distill.arguments(parser)
    steps = distill._steps(parser.read(["--name", "orders", "--seed", "seeds.jsonl", *WORDS, *words]))
    found = {name: dict(steps.amplified.values())[name] for name in ("difficulty", "steer")}
    assert found == {"difficulty": {"easy": 0.3, "medium": 0.7}, "steer": ("patterns", "lengths")}
    assert dict(steps.policy.values())["clusters"] == "auto"


def test_what_was_planned_is_told_beside_what_came() -> None:
    nothing = {"short": {"planned": None, "reached": 1.0, "rows": 9}}
    mix = {"easy": {"planned": 0.3, "reached": 0.25, "rows": 5}, "hard": {"planned": 0.0, "reached": 0.0, "rows": 0}}
    told = distill._reached({"lengths": nothing, "difficulty": mix})
    assert told == ["difficulty of the new inputs: easy 25% of 30%"]


def test_a_hosted_teacher_is_asked_about_first(orders: Shell) -> None:
    done = orders("distill", "--name", "o", "--seed", "seeds.jsonl", *WORDS, "--teacher", "openai/gpt-4o-mini")
    assert done.code == 2
    assert "this run will cost about $" in done.err
    assert "of openai/gpt-4o-mini, and there is no terminal to ask on" in done.err
