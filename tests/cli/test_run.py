"""`plan` and `run`: results, exit codes, limits, money."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import SEEDS, Shell

ASKING = """\
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  asked:
    uses: generate.prompt
    rows: $seeds
    template: "{{ input }}"
    by: {uses: calls.ask, model: MODEL}
result: $asked
"""


def test_a_run_tells_on_stdout_what_it_made_and_on_stderr_how_it_went(shell: Shell) -> None:
    done = shell.spawn("run", "recipe.yaml")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["name", "recipe"]
    assert "steps made  3" in done.out
    assert "curate.dedup  " in done.err
    assert (shell.folder / "out" / "recipe").is_symlink()


def test_a_second_run_makes_nothing(shell: Shell) -> None:
    first = shell("run", "recipe.yaml", "--json", "--quiet").json
    again = shell("run", "recipe.yaml", "--json", "--quiet")
    assert (first["steps_made"], again.json["steps_made"]) == (3, 0)
    assert first["digest"] == again.json["digest"]
    assert again.err == ""


def test_json_says_all_that_a_program_needs(shell: Shell) -> None:
    told = shell("run", "recipe.yaml", "--json", "--name", "orders", "--folder", "here").json
    assert told["name"] == "orders"
    assert told["kind"] == "Rows"
    assert told["counts"]["out"] == len(SEEDS)
    assert told["failed"] == {}
    assert (shell.folder / told["path"]).is_dir()
    assert told["path"].startswith("here/")


def test_the_resolved_recipe_stands_beside_the_name_and_runs_to_the_same(shell: Shell) -> None:
    first = shell("run", "recipe.yaml", "--set", "clean.threshold=0.5", "--json", "--quiet").json
    again = shell("run", "out/names/recipe.yaml", "--folder", "out", "--json", "--quiet").json
    assert again["key"] == first["key"]
    assert again["steps_made"] == 0


def test_failed_rows_are_exit_code_3_with_the_step_and_the_command_that_says_why(shell: Shell) -> None:
    done = shell.spawn("run", "recipe.yaml", "--set", "numbered.fail=[3, 4]", "--quiet", "--json")
    assert done.code == 3
    assert done.json["failed"] == {"test.numbered/1": 2}
    first, second = done.err.splitlines()
    assert first == "2 rows failed: test.numbered 2"
    shown, again = re.findall(r"`stillhouse ([^`]*)`", second)
    assert "this number is cursed" in shell(*shown.split()).out
    assert again == "retry recipe"
    assert shell.spawn("run", "recipe.yaml", "--set", "numbered.fail=[3, 4]", "--quiet").code == 3


def test_rows_that_failed_on_another_way_to_the_same_content_are_told(shell: Shell) -> None:
    assert shell("run", "recipe.yaml", "--set", "numbered.drop=[3]", "--quiet").code == 0
    done = shell("run", "recipe.yaml", "--set", "numbered.fail=[3]", "--quiet", "--json")
    assert done.json["steps_made"] == 1  # what is behind it was there already, made of the rows without the dropped one
    assert (done.code, done.json["failed"]) == (3, {"test.numbered/1": 1})
    again = shell("run", "recipe.yaml", "--set", "numbered.fail=[3]", "--quiet")
    assert again.code == 3
    shown = re.findall(r"`stillhouse (show [^`]*)`", again.err)[0]
    assert "this number is cursed" in shell(*shown.split()).out
    assert shell("run", "recipe.yaml", "--set", "numbered.drop=[3]", "--quiet").code == 0


def test_rows_that_failed_are_told_though_the_file_grew_meanwhile(shell: Shell) -> None:
    """Long runs read files that are still written to."""
    told = shell(
        "run", "recipe.yaml", "--set", "numbered.fail=[3]", "--set", "numbered.grow=seeds.jsonl", "--quiet", "--json"
    )
    assert len((shell.folder / "seeds.jsonl").read_text().splitlines()) > len(SEEDS)
    assert (told.code, told.json["failed"]) == (3, {"test.numbered/1": 1})


def test_rows_that_are_dropped_are_no_failure(shell: Shell) -> None:
    done = shell("run", "recipe.yaml", "--set", "numbered.drop=[3, 4]", "--json", "--quiet")
    assert done.code == 0
    assert done.json["counts"]["out"] == len(SEEDS) - 2


@pytest.mark.parametrize(("least", "code"), [(5, 0), (50, 3)])
def test_a_gate_that_does_not_let_pass_is_exit_code_3(shell: Shell, least: int, code: int) -> None:
    gate = f"  gate: {{uses: 'steps:Gate', rows: $clean, least: {least}}}\nresult: $gate\n"
    shell.write("recipe.yaml", (shell.folder / "recipe.yaml").read_text().replace("result: $clean\n", gate))
    done = shell("run", "recipe.yaml", "--quiet")
    assert done.code == code
    assert done.out.startswith("8 rows\n")
    assert ("`test.gate` did not let the result pass" in done.err) is (code == 3)


def test_a_recipe_function_runs_with_its_arguments_changed(shell: Shell) -> None:
    shell.write("function.yaml", "recipe: steps:pipeline\nwith: {seeds: seeds.jsonl}\n")
    by_function = shell("run", "function.yaml", "--set", "threshold=0.7", "--json", "--quiet").json
    by_table = shell("run", "recipe.yaml", "--set", "clean.threshold=0.7", "--json", "--quiet").json
    assert by_function["key"] == by_table["key"]


def test_a_recipe_elsewhere_writes_into_the_working_folder_unless_it_names_one(shell: Shell) -> None:
    (shell.folder / "sub").mkdir()
    text = (shell.folder / "recipe.yaml").read_text().replace("seeds.jsonl", "../seeds.jsonl")
    shell.write("sub/recipe.yaml", text)
    assert shell("run", "sub/recipe.yaml", "--quiet", "--json").json["path"].startswith("out/")
    shell.write("sub/recipe.yaml", text + "output: made\n")
    assert shell("run", "sub/recipe.yaml", "--quiet", "--json").json["path"].startswith("sub/made/")


def test_a_plan_says_what_will_run_and_why_and_makes_nothing(shell: Shell) -> None:
    before = shell("plan", "recipe.yaml")
    assert before.code == 0
    assert "3 of 3 steps to run" in before.out
    assert not list((shell.folder / "out" / "artifacts-v1").iterdir())
    shell("run", "recipe.yaml", "--quiet")
    assert "0 of 3 steps to run" in shell("plan", "recipe.yaml").out
    changed = shell("plan", "recipe.yaml", "--set", "clean.threshold=0.5")
    assert "1 of 3 steps to run" in changed.out
    assert "threshold: (default) → 0.5" in changed.out
    states = [step["state"] for step in shell("plan", "recipe.yaml", "--json").json["steps"]]
    assert states == ["cached"] * 3


def test_a_limit_takes_a_few_rows_through_the_whole_road_under_a_name_of_its_own(shell: Shell) -> None:
    done = shell("run", "recipe.yaml", "--limit", "2", "--json", "--quiet").json
    assert done["counts"]["out"] == 2
    assert done["name"] == "recipe-first-2"
    whole = shell("run", "recipe.yaml", "--json", "--quiet").json
    assert whole["counts"]["out"] == len(SEEDS)
    assert whole["key"] != done["key"]


def test_what_a_limited_run_asked_is_not_asked_again(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    limited = shell("run", "asking.yaml", "--limit", "3", "--json", "--quiet").json
    assert limited["calls"]["calls"] == 3
    assert (shell.folder / "asked").read_text() == "..."
    whole = shell("run", "asking.yaml", "--json", "--quiet").json
    assert (whole["calls"]["calls"], whole["calls"]["cached"]) == (len(SEEDS) - 3, 3)
    assert len((shell.folder / "asked").read_text()) == len(SEEDS)


def test_a_preview_shows_rows_and_ends_where_nobody_can_be_asked(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    done = shell("run", "asking.yaml", "--preview", "2", "--quiet", "--json")
    assert done.code == 0
    assert "generate.prompt: 2 rows" in done.err
    assert "ORDER NUMBER 2" in done.err
    assert "ORDER NUMBER 3" not in done.err
    assert "`--yes` makes the rest" in done.err
    (seen,) = done.json["preview"]
    assert (seen["rows"], seen["calls"], seen["calls_to_come"], seen["cost_to_come"]) == (2, 2, len(SEEDS), 0.0)
    assert not (shell.folder / "out" / "asking").exists()


def test_after_a_preview_the_rest_is_made_and_nothing_asked_twice(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    done = shell("run", "asking.yaml", "--preview", "2", "--json", "--quiet", "--yes")
    assert done.json["counts"]["out"] == len(SEEDS)
    assert len((shell.folder / "asked").read_text()) == len(SEEDS)


@pytest.mark.parametrize(("answer", "code", "calls"), [("y", 0, len(SEEDS)), ("n", 2, 2), ("", 2, 2)])
def test_on_a_terminal_a_preview_asks_before_it_goes_on(shell: Shell, answer: str, code: int, calls: int) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    ended, said = at_terminal(shell, f"{answer}\n", "run", "asking.yaml", "--preview", "2")
    assert "Go on with the rest? [y/N]" in said
    assert ended == code
    assert len((shell.folder / "asked").read_text()) == calls


def test_a_preview_tells_what_failed_and_what_a_recipe_without_models_has_to_show(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps:picky"'))
    done = shell("run", "asking.yaml", "--preview", "3", "--quiet")
    assert "failed: refused: not number 2" in done.err
    assert "nothing to preview" in shell("run", "recipe.yaml", "--preview", "3", "--quiet").err


def paid(shell: Shell, model: str = "openai/gpt-4o-mini") -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", model))


def test_a_run_that_costs_money_is_refused_without_a_terminal(shell: Shell) -> None:
    paid(shell)
    done = shell.spawn("run", "asking.yaml", "--quiet")
    assert done.code == 2
    assert done.err.startswith("this run will cost about $0.000")
    assert " for about 8 calls of openai/gpt-4o-mini, and there is no terminal to ask on\n" in done.err
    assert "`--yes`" in done.err


def test_an_unknown_price_is_asked_about_too(shell: Shell) -> None:
    paid(shell, "groq/some-model")
    done = shell("run", "asking.yaml", "--quiet")
    assert done.code == 2
    assert "an unknown amount (no price is known of groq/some-model) for about 8 calls of groq/some-model" in done.err
    assert shell("plan", "asking.yaml", "--json").json["paid"]["models"] == ["groq/some-model"]


@pytest.mark.parametrize("answer", ["n", ""])
def test_on_a_terminal_the_run_asks_and_no_spends_nothing(shell: Shell, answer: str) -> None:
    paid(shell)
    code, said = at_terminal(shell, f"{answer}\n", "run", "asking.yaml")
    assert "Go on? [y/N]" in said
    assert "nothing was spent" in said
    assert code == 2


def test_a_missing_key_names_the_variable(shell: Shell) -> None:
    paid(shell)
    done = shell.spawn("run", "asking.yaml", "--yes", "--quiet")
    assert done.code == 1
    assert done.err == (
        "ModelError: `openai/gpt-4o-mini` needs an API key, and `OPENAI_API_KEY` is not set\n"
        "  Set it with `export OPENAI_API_KEY=…` or put a line `OPENAI_API_KEY=…` into `.env`.\n"
    )


@pytest.mark.parametrize("model", ["python:steps", "local/model, endpoint: 'http://localhost:9/v1'"])
def test_what_runs_on_this_machine_is_not_asked_about(shell: Shell, model: str) -> None:
    paid(shell, model)
    assert shell("plan", "asking.yaml", "--json").json["paid"] == {"cost_usd": 0.0, "calls": 0, "models": []}


def test_what_was_answered_already_costs_nothing(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", "python:steps, deployment: teacher"))
    assert shell("run", "asking.yaml", "--quiet").code == 0
    paid(shell, "openai/gpt-4o-mini, deployment: teacher")
    done = shell("run", "asking.yaml", "--quiet", "--json")
    assert (done.code, done.json["steps_made"]) == (0, 0)


def at_terminal(shell: Shell, typed: str, *words: str) -> tuple[int, str]:
    """Run at a terminal of the test's own; returns the exit code and all that was shown."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        shell.command(*words), cwd=shell.folder, env=shell.environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    os.write(mine, typed.encode())
    while True:
        try:
            piece = os.read(mine, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    code = process.wait(timeout=60)
    os.close(mine)
    return code, shown.decode()


def test_secrets_of_the_environment_are_written_nowhere(shell: Shell) -> None:
    shell.env = {"OPENAI_API_KEY": "sk-not-to-be-found"}
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps"'))
    assert shell("run", "asking.yaml").code == 0
    assert shell("doctor").code == 0
    files = [path for path in Path(shell.folder, "out").rglob("*") if path.is_file()]
    assert files
    assert not any(b"sk-not-to-be-found" in path.read_bytes() for path in files)
