"""Curves as pictures and as text."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.names import Names
from stillhouse.core.session import Session
from stillhouse.track.plot import Curve, curves, plot_png, plot_text, thinned
from stillhouse.track.run import Run
from tests.track.test_listener import Fitting


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for name, factor in (("slow", 2.0), ("fast", 1.0)):
        with Run.start(tmp_path, name=name) as run:
            for step in range(200):
                run.log({"loss": factor / (step + 1), "only": 1.0} if name == "fast" else {"loss": factor / (step + 1)})
    return tmp_path


def test_a_png_is_written(store: Path) -> None:
    path = plot_png(store, "loss", store / "loss.png", log=True)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert path.stat().st_size > 5000


def test_text_has_axes_a_falling_curve_and_a_legend(store: Path) -> None:
    lines = plot_text(store, "loss", width=60, height=15).splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) == 15
    assert lines[0].strip() == "loss"
    assert lines[1].startswith("    2 ┤⡇")
    assert lines[-2].split() == ["0", "199"]
    assert lines[-1] == "slow  fast"
    last_row = next(line for line in lines if line.startswith("0.005 "))
    assert last_row.rstrip()[-1] not in " ┤"


def test_runs_can_be_chosen_by_name(store: Path) -> None:
    (curve,) = curves(store, "loss", ["fast"])
    assert (curve.label, curve.values[0], len(curve.steps)) == ("fast", 1.0, 200)


def test_runs_of_one_name_are_told_apart_by_their_ids(store: Path) -> None:
    with Run.start(store, name="fast") as run:
        run.log({"loss": 9.0})
    labels = [curve.label for curve in curves(store, "loss")]
    assert labels[0] == "slow"
    assert f"fast ({run.id})" in labels


def test_a_folder_that_is_not_there_is_told(store: Path) -> None:
    with pytest.raises(RecipeError, match=r"`.*/none/loss.png` cannot be written: No such file or directory"):
        plot_png(store, "loss", store / "none" / "loss.png")


def test_a_session_stands_for_its_steps_and_a_result_for_its_curve(tmp_path: Path) -> None:
    with Session(tmp_path, progress=False) as session:
        session.run(Fitting(), name="orders")
        session.run(Fitting(scale=2.0), name="others")
    assert [(curve.label, curve.values[0]) for curve in curves(tmp_path, "loss", ["orders"])] == [("orders", 1.0)]
    assert [curve.label for curve in curves(tmp_path, "loss")] == ["orders", "others"]
    Names(session.store).remove("others")
    assert [curve.label for curve in curves(tmp_path, "loss")] == ["orders", "test_listener.fitting/1"]


def test_an_unknown_metric_names_those_that_were_logged(store: Path) -> None:
    with pytest.raises(RecipeError, match=r"`los`\n  Logged here: loss, only\."):
        plot_text(store, "los")


def test_thinning_keeps_the_ends_and_every_spike() -> None:
    values = [0.0] * 10_000
    values[7777], values[1234] = 5.0, -5.0
    thin = thinned(Curve("x", list(range(10_000)), values), 100)
    assert len(thin.steps) <= 102
    assert {0, 1234, 7777, 9999} <= set(thin.steps)
    assert thin.steps == sorted(thin.steps)


def test_values_that_cannot_be_drawn_are_left_out(tmp_path: Path) -> None:
    with Run.start(tmp_path) as run:
        for value in (1.0, math.nan, math.inf, 2.0):
            run.log({"x": value})
        run.log({"bad": math.nan})
    assert "2 ┤" in plot_text(tmp_path, "x", width=40, height=8)
    assert plot_text(tmp_path, "bad") == "bad: nothing that can be drawn"


def test_a_missing_matplotlib_is_named_with_the_remedy(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RecipeError, match=r"pip install 'stillhouse\[plot\]'"):
        plot_png(store, "loss", store / "x.png")
