"""`stillhouse rm`: nothing of a name stays that leads nowhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stillhouse import Session
from tests.cli.shell import Shell
from tests.core.steps import Copied, Numbers


def delivered(store: Path) -> Path:
    """A name with a folder of links, as a distillation leaves it."""
    folder = store / "orders"
    folder.mkdir(parents=True)
    with Session(store, track=False, progress=False) as session:
        made = session.run(Copied(rows=Numbers(count=1)), name="orders")
    os.symlink(os.path.relpath(made.data, folder), folder / "model")
    (folder / "recipe.yaml").write_text("a: 1")
    (store / "names" / "orders.yaml").write_text("a: 1")
    return folder


def test_links_and_recipes_go_with_the_name(shell: Shell) -> None:
    store = shell.folder / "out"
    delivered(store)
    assert shell("rm", "orders", "--folder", "out").code == 0
    assert not (store / "orders").exists()
    assert [path.name for path in (store / "names").glob("orders*")] == []


def test_what_others_put_there_stays(shell: Shell) -> None:
    folder = delivered(shell.folder / "out")
    (folder / "notes.txt").write_text("mine")
    assert shell("rm", "orders", "--folder", "out").code == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_doctor_tells_of_links_that_lead_nowhere(shell: Shell) -> None:
    store = shell.folder / "out"
    delivered(store)
    (store / "names" / "orders.json").unlink()
    then = time.time() - 9000
    for path in [*store.glob("artifacts-v1/*/*"), *store.glob("work-v1/*")]:
        os.utime(path, (then, then))
    assert shell("gc", "--folder", "out").code == 0
    assert f"lead to results that are gone: {os.path.join('orders', 'model')}" in shell("doctor", "--folder", "out").out
