"""The entry point: help, suggestions, errors, exit codes."""

from __future__ import annotations

import os
import subprocess

import pytest

from stillhouse.cli.main import main
from stillhouse.cli.table import COMMANDS
from tests.cli.shell import Shell

NAMES = [name for name, _, _ in COMMANDS]


def test_help_lists_every_command_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, _, text in COMMANDS:
        assert f"  {name}" in out
        assert text in out


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: stillhouse COMMAND")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_speaks_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: stillhouse {name}")
    assert "--json" in out
    assert "--debug" in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from stillhouse import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stillhouse {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plna"], "there is no command `plna`\n  Did you mean `stillhouse plan`?"),
        (["zzz"], "there is no command `zzz`\n  `stillhouse --help` lists the commands."),
        (["--verion"], "there is no option `--verion`"),
        (["run", "r.yaml", "--limti", "5"], "there is no option `--limti`\n  Did you mean `--limit`?"),
        (["run", "r.yaml", "--lim", "5"], "there is no option `--lim`"),
        (["run", "r.yaml", "other.yaml"], "unexpected argument `other.yaml`"),
        (["run"], "the following arguments are required: RECIPE"),
        (["run", "r.yaml", "--limit", "0"], "argument --limit: 0 is not above 0"),
        (["run", "r.yaml", "--limit", "many"], "argument --limit: invalid whole number value: 'many'"),
    ],
)
def test_what_cannot_be_understood_is_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_an_error_is_a_message_without_a_traceback(shell: Shell) -> None:
    done = shell.spawn("run", "nothing.yaml")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("RecipeError: there is no file `nothing.yaml`\n  Looked in ")
    assert "Traceback" not in done.err


def test_a_near_file_name_is_suggested(shell: Shell) -> None:
    assert "Did you mean `recipe.yaml`?" in shell("plan", "recipes.yaml").err


def test_debug_shows_the_traceback_too(shell: Shell) -> None:
    done = shell.spawn("run", "nothing.yaml", "--debug")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.rstrip().splitlines()[-2].startswith("RecipeError: there is no file")


def test_json_has_the_error_on_stdout(shell: Shell) -> None:
    error = shell("run", "nothing.yaml", "--json").json["error"]
    assert error["type"] == "RecipeError"
    assert error["message"] == "there is no file `nothing.yaml`"


def test_a_mistake_in_a_users_step_is_told_with_its_place(shell: Shell) -> None:
    shell.write("recipe.yaml", (shell.folder / "recipe.yaml").read_text().replace("curate.dedup", "steps:Broken"))
    done = shell.spawn("run", "recipe.yaml", "--quiet")
    assert done.code == 1
    assert "ZeroDivisionError: division by zero (steps.py:" in done.err
    assert "in run)\n  `--debug` shows the whole traceback." in done.err
    assert "Traceback" not in done.err


def test_a_reader_that_leaves_is_no_error(shell: Shell) -> None:
    with subprocess.Popen(
        shell.command("schema"),
        cwd=shell.folder,
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("variables", "styled"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_style_is_for_terminals_that_want_it(shell: Shell, variables: dict[str, str], styled: bool) -> None:
    shell.env = {"TERM": "xterm", **variables}
    mine, theirs = os.openpty()
    process = subprocess.Popen(
        shell.command("list", "rows"), cwd=shell.folder, env=shell.environment(), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    assert process.wait(timeout=60) == 0
    out = os.read(mine, 100_000).decode()
    os.close(mine)
    assert "rows.import" in out
    assert ("\x1b[1m" in out) is styled


def test_recipes_can_name_modules_of_the_working_folder_but_none_hides_the_standard_library(shell: Shell) -> None:
    shell.write("queue.py", "raise RuntimeError('not this one')")
    program = "import sys; sys.path.remove(''); from stillhouse.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [shell.command()[0], "-c", program, "run", "recipe.yaml", "--quiet"]
    done = subprocess.run(
        command, cwd=shell.folder, env=shell.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
