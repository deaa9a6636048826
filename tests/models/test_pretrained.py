"""Models that exist already count by what they are, not by where they lie or what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stillhouse.core import hub as names
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.models.pretrained import Pretrained

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without network whose cache holds one model."""
    cache = tmp_path / "hub" / "models--someone--small"
    shutil.copytree(model_folder, cache / "snapshots" / COMMIT)
    (cache / "snapshots" / COMMIT / "training.bin").write_bytes(b"pickled")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(names, "_commits", {})
    return cache


def test_a_folder_counts_by_its_content(tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "here")
    shutil.copytree(model_folder, tmp_path / "there")
    (tmp_path / "there" / "notes.py").write_text("not part of the model")
    here, there = Pretrained(name=str(tmp_path / "here")), Pretrained(name=str(tmp_path / "there"))
    assert here.recipe_key == there.recipe_key
    before = here.recipe_key
    template = tmp_path / "here" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert here.recipe_key != before


def test_a_hub_name_counts_by_its_commit(hub: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Pretrained(name="someone/small").recipe_key
    assert Pretrained(name="someone/small", revision=COMMIT).recipe_key == named
    shutil.copytree(model_folder, hub / "snapshots" / OTHER)
    (hub / "refs" / "main").write_text(OTHER)
    assert Pretrained(name="someone/small").recipe_key == named  # what a name stands for does not change in mid-plan
    monkeypatch.setattr(names, "_commits", {})
    assert Pretrained(name="someone/small").recipe_key != named


def test_a_cached_model_is_taken_without_a_network(hub: Path, tmp_path: Path, model_folder: Path) -> None:
    del hub
    with Session(tmp_path / "store", track=False, progress=False) as session:
        model = session.run(Pretrained(name="someone/small"))
    assert model.record["facts"] == {"source": "https://huggingface.co/someone/small", "commit": COMMIT}
    names = {path.name for path in model.path.iterdir()}
    assert names == {path.name for path in model_folder.iterdir()}
    assert "training.bin" not in names


def test_a_folder_is_copied_not_linked(tmp_path: Path, model_folder: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(model_folder, source)
    with Session(tmp_path / "store", track=False, progress=False) as session:
        model = session.run(Pretrained(name=str(source)))
    kept = (model.path / "config.json").read_text()
    with (source / "config.json").open("a") as file:
        file.write(" ")
    assert (model.path / "config.json").read_text() == kept


@pytest.mark.usefixtures("hub")
def test_an_unknown_model_offline_says_what_to_do() -> None:
    step = Pretrained(name="someone/large")
    with pytest.raises(RecipeError, match="`someone/large` is not on this machine") as caught:
        step.recipe_key
    assert "FromScratch" in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_an_unknown_revision_offline_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match="someone/small"):
        Pretrained(name="someone/small", revision="v9").recipe_key


def test_a_name_that_is_neither_folder_nor_hub_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no folder"):
        Pretrained(name=str(tmp_path / "nowhere" / "at" / "all")).recipe_key


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no config\.json"):
        Pretrained(name=str(tmp_path)).recipe_key


def test_a_folder_has_no_revisions(model_folder: Path) -> None:
    with pytest.raises(RecipeError, match="no revisions"):
        Pretrained(name=str(model_folder), revision="main").recipe_key


def test_looking_at_a_step_does_not_ask_the_hub() -> None:
    left, right = Pretrained(name="someone/unheard-of"), Pretrained(name="someone/unheard-of")
    assert left == right
    assert hash(left) == hash(right)
    assert left != Pretrained(name="someone/unheard-of", revision="v1")
