"""Tokenizers that exist already count by what they are; only their own files are taken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stillhouse.core import hub as names
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text.pretrained_tokenizer import PretrainedTokenizer, tokenizer_step
from stillhouse.text.tokenizer import load_tokenizer
from stillhouse.text.train_tokenizer import TrainTokenizer
from tests.hub_server import HubServer
from tests.text.tokenizers import small_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save_pretrained(made)
    return made


def test_a_folder_counts_by_its_tokenizer_files(folder: Path, tmp_path: Path) -> None:
    for name in ("here", "there"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "there" / "model.safetensors").write_bytes(b"weights")
    here, there = (PretrainedTokenizer(name=str(tmp_path / name)) for name in ("here", "there"))
    assert here.recipe_key == there.recipe_key
    (tmp_path / "there" / "chat_template.jinja").write_text("another")
    assert here.recipe_key != there.recipe_key


def test_of_a_model_on_the_hub_only_the_tokenizer_is_fetched(
    folder: Path, tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files |= {"model.safetensors": b"weights", "modeling.py": b"code", "config.json": b"{}"}
    with HubServer() as hub:
        hub.used_by(monkeypatch, str(tmp_path / "hub"))
        commit = hub.push("models", "someone/small", files)
        step = tokenizer_step("someone/small")
        made = session.run(step)
        assert {path.name for path in made.path.iterdir()} == set(files) - {"model.safetensors", "modeling.py"}
        assert made.record["facts"] == {"source": "https://huggingface.co/someone/small", "commit": commit}
        assert not any(path.endswith(("safetensors", ".py")) for path in hub.asked)
        assert load_tokenizer(made.path).get_vocab() == small_tokenizer().get_vocab()
        assert tokenizer_step(f"someone/small@{commit}").recipe_key == step.recipe_key
        hub.push("models", "someone/small", {**files, "vocab.txt": b"x"})
        assert step.replace().recipe_key == step.recipe_key  # not in mid-plan
        monkeypatch.setattr(names, "_commits", {})
        assert step.replace().recipe_key != made.record["recipe_key"]
        hub.push("models", "someone/bare", {"config.json": b"{}"})
        with pytest.raises(RecipeError, match="`someone/bare` has no tokenizer"):
            session.run(PretrainedTokenizer(name="someone/bare"))
        with pytest.raises(RecipeError, match="the hub knows no model `someone/nothing`"):
            session.run(PretrainedTokenizer(name="someone/nothing"))


def test_what_a_user_calls_a_tokenizer_becomes_a_step(folder: Path, tmp_path: Path) -> None:
    step = TrainTokenizer(rows=Import(data=[{"text": "a"}], require=()))
    assert tokenizer_step(step) is step
    assert tokenizer_step(folder) == PretrainedTokenizer(name=str(folder))
    assert tokenizer_step("a/b@v1") == PretrainedTokenizer(name="a/b", revision="v1")
    odd = tmp_path / "a@b"
    odd.mkdir()
    assert tokenizer_step(odd) == PretrainedTokenizer(name=str(odd))
    with pytest.raises(RecipeError, match="is no tokenizer"):
        tokenizer_step(3)  # type: ignore[arg-type]


def test_folders_that_are_no_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, message in (
        (str(tmp_path), "holds no tokenizer"),
        (str(folder / "tokenizer.json"), f"Name the folder that it lies in: `{folder}`"),
        (str(tmp_path / "no" / "where" / "at"), "there is no folder"),
    ):
        with pytest.raises(RecipeError, match=message):
            PretrainedTokenizer(name=name).recipe_key
    with pytest.raises(RecipeError, match="no revisions"):
        PretrainedTokenizer(name=str(folder), revision="main").recipe_key
