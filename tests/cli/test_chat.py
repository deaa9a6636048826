"""`stillhouse chat`: lines in, replies out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.models.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled folder as far as chat looks at it: a model and the recipe beside it."""
    folder = tmp_path_factory.mktemp("distilled")
    tiny_model(folder / "model", tiny_tokenizer(folder / "tokenizer"))
    return folder


def chat(shell: Shell, folder: Path, lines: str, *words: str) -> list[dict[str, str | None]]:
    done = shell("chat", str(folder), "--json", "--max-tokens", "8", "--device", "cpu", *words, stdin=lines)
    assert done.code in (0, 3), done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_each_line_has_its_own_greedy_reply(shell: Shell, student: Path) -> None:
    first = chat(shell, student, "give me one\n\nred cat\n")
    assert [entry["input"] for entry in first] == ["give me one", "red cat"]
    assert first == chat(shell, student / "model", "give me one\nred cat\n")
    assert first[::-1] == chat(shell, student, "red cat\ngive me one\n")


def test_history_and_a_system_message_change_what_is_seen(shell: Shell, student: Path) -> None:
    lines = "give me one\nred cat\nblue dog and two\nbird\n"
    plain = chat(shell, student, lines)
    with_history = chat(shell, student, lines, "--history")
    assert with_history[0] == plain[0]
    assert with_history[1:] != plain[1:]
    assert chat(shell, student, lines, "--system", "blue bird") != plain


def test_a_distilled_student_is_asked_as_it_was_trained(shell: Shell, student: Path) -> None:
    asked = chat(shell, student, "red cat\n", "--system", "blue bird")
    (student / "asking.json").write_text(json.dumps({"system": "blue bird", "answer_after": None}))
    try:
        assert chat(shell, student, "red cat\n") == asked
        assert chat(shell, student / "model", "red cat\n") == asked
        done = shell(
            "chat", student.name, "--folder", str(student.parent), "--json", "--max-tokens", "8", stdin="red cat\n"
        )
        assert [json.loads(line) for line in done.out.splitlines()] == asked
    finally:
        (student / "asking.json").unlink()


def test_an_unreadable_way_of_asking_is_told(shell: Shell, student: Path) -> None:
    (student / "asking.json").write_text("[]")
    try:
        done = shell("chat", str(student), stdin="red cat\n")
    finally:
        (student / "asking.json").unlink()
    assert (done.code, "asking.json` cannot be read" in done.err) == (1, True)


def test_a_reply_that_was_cut_is_said_and_is_exit_code_3(shell: Shell, student: Path) -> None:
    done = shell("chat", str(student), "--max-tokens", "1", "--device", "cpu", stdin="give me one\n")
    assert done.code == 3
    assert done.err == "(cut)\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "there is no folder `nowhere`"),
        ("some/where", "there is no folder `some/where`"),
        (".", "there is no model in `.`\n  A model's folder holds `config.json` and weights."),
    ],
)
def test_what_is_no_model_is_told(shell: Shell, given: str, message: str) -> None:
    done = shell("chat", given, stdin="hello\n")
    assert done.code == 1
    assert message in done.err


def test_a_name_that_is_no_model_is_told(shell: Shell) -> None:
    shell("run", "recipe.yaml", "--quiet")
    done = shell("chat", "recipe", stdin="hello\n")
    assert done.code == 1
    assert "`recipe` is of the kind Rows, and only a Model can be talked to" in done.err
