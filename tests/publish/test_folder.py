"""The output folder: links into the store, copies where links are impossible."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.publish.folder import link_folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    model = tmp_path / "out" / "artifacts" / "ab" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (tmp_path / "out" / "artifacts" / "report.html").write_text("<html>")
    return tmp_path / "out"


def targets(store: Path) -> dict[str, Path]:
    return {"model": store / "artifacts" / "ab" / "model", "report.html": store / "artifacts" / "report.html"}


def test_links_are_relative_so_the_store_can_be_moved(store: Path, tmp_path: Path) -> None:
    folder = link_folder(store / "orders", targets(store))
    assert os.readlink(folder / "model") == os.path.join("..", "artifacts", "ab", "model")
    shutil.move(store, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "orders" / "model" / "config.json").read_text() == "{}"
    assert (tmp_path / "elsewhere" / "orders" / "report.html").read_text() == "<html>"


def test_a_second_run_replaces_the_links_of_the_first_and_nothing_else(store: Path) -> None:
    folder = link_folder(store / "orders", targets(store))
    (folder / "notes.txt").write_text("mine")
    (store / "artifacts" / "other.html").write_text("<new>")
    link_folder(folder, {"report.html": store / "artifacts" / "other.html"})
    assert (folder / "report.html").read_text() == "<new>"
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "model" / "config.json").exists()


def test_a_file_of_the_users_own_is_never_replaced(store: Path) -> None:
    folder = store / "orders"
    folder.mkdir()
    (folder / "report.html").write_text("precious")
    with pytest.raises(StoreError, match="stands in the way"):
        link_folder(folder, targets(store))
    assert (folder / "report.html").read_text() == "precious"
    assert not (folder / "model").exists()


def test_where_links_are_impossible_copies_are_made_and_replaced(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no links here")

    with monkeypatch.context() as patched:
        patched.setattr(os, "symlink", refuse)
        folder = link_folder(store / "orders", targets(store))
        assert not (folder / "model").is_symlink()
        assert (folder / "model" / "config.json").read_text() == "{}"
        (store / "artifacts" / "ab" / "model" / "config.json").write_text('{"a": 1}')
        link_folder(folder, targets(store))
        assert (folder / "model" / "config.json").read_text() == '{"a": 1}'
    link_folder(folder, targets(store))
    assert (folder / "model").is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["model", "report.html"]


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "", ".hidden", "a\0b"])
def test_names_cannot_leave_the_folder(store: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be a file name"):
        link_folder(store / "orders", {name: store / "artifacts" / "report.html"})
    assert not (store / "orders").exists()


def test_a_target_that_is_gone_is_named(store: Path) -> None:
    with pytest.raises(StoreError, match="there is no"):
        link_folder(store / "orders", {"model": store / "nothing"})
