"""Unfinished work that was damaged where it lay: what is trusted is whole, the rest is made again."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.errors import Interrupted
from stillhouse.core.events import Event
from stillhouse.core.journal import JOURNAL, Journal, Pieces
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from tests.core.steps import Growth, Numbers, Upper

NUMBERS = Numbers(count=900)
STEPS = {"map": Upper(rows=NUMBERS), "grow": Growth(rows=NUMBERS, goal=60)}


def stop_early(folder: Path, step: Step[Any], pieces: int) -> None:
    """Run `step` in small pieces and stop it after some of them."""

    def listen(event: Event) -> None:
        if event.kind == "step.progress" and event.data["tag"] == step.tag:
            seen.append(event)
            if len(seen) == pieces:
                session.stop()

    seen: list[Event] = []
    options = Options(chunk=64, first_look=20)
    with (
        Session(folder, options=options, on_event=listen, track=False, progress=False) as session,
        contextlib.suppress(Interrupted),
    ):
        session.run(step)
    assert len(seen) >= pieces


def finish(folder: Path, step: Step[Any]) -> dict[str, bytes]:
    """Run `step` to its end, in larger pieces than before; its files."""
    with Session(folder, options=Options(chunk=400), track=False, progress=False) as session:
        made = session.run(step)
        return {path.relative_to(made.folder).as_posix(): path.read_bytes() for path in made.folder.rglob("*.parquet")}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("seed", range(6))
def test_damaged_work_is_made_again_and_the_result_is_the_same(tmp_path: Path, kind: str, seed: int) -> None:
    step, draw = STEPS[kind], random.Random(seed)
    stop_early(tmp_path / "broken", step, pieces=3)
    files = sorted(path for path in (tmp_path / "broken").glob("work-v1/*/scratch/**/*") if path.is_file())
    victim = draw.choice(files)
    data = bytearray(victim.read_bytes())
    place = draw.randrange(len(data))
    how = draw.choice(["flip", "cut", "append"])
    if how == "flip":
        data[place] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del data[place:]
    else:
        data += data[place:]
    victim.write_bytes(data)
    assert finish(tmp_path / "broken", step) == finish(tmp_path / "whole", step)


def test_files_of_a_piece_that_was_not_entered_are_taken_away(tmp_path: Path) -> None:
    """Killed after the files and before the entry: the next attempt may cut its pieces differently."""
    pieces = Pieces(tmp_path)
    pieces.commit({"n": 0}, {"0.rows": b"first"})
    (tmp_path / "1.rows").write_bytes(b"of a piece that nobody knows")
    (tmp_path / "1.failed").write_bytes(b"of the same piece")
    pieces.close()
    assert [entry["n"] for entry in Pieces(tmp_path).restore()] == [0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.rows", JOURNAL]


def test_a_torn_line_is_cut_and_the_lines_before_it_stay(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for number in range(3):
        journal.append({"n": number})
    journal.close()
    whole = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(whole[:-4])
    entries = list(Journal(tmp_path / "journal").entries())
    assert [entry["n"] for entry in entries] == [0, 1]
    Journal(tmp_path / "journal").keep(entries)
    journal.append({"n": 2})
    journal.close()
    assert (tmp_path / "journal").read_bytes() == whole
