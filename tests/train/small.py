"""Trainings of a second: a tiny model, a few conversations, a session."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.core.artifact import Artifact, Model
from stillhouse.core.events import Event
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.models.pretrained import Pretrained
from stillhouse.rows.import_ import Import
from stillhouse.train.finetune import Finetune
from tests.models.tiny import conversation


def conversations(first: int, stop: int) -> Import:
    """Rows with a `messages` column."""
    return Import(data=tuple({"messages": conversation(number)} for number in range(first, stop)), require=())


def recipe(base: Path, **changes: Any) -> Finetune:
    """A training of 12 updates over 3 epochs, evaluated 4 times."""
    fields: dict[str, Any] = {
        "base": Pretrained(name=str(base)), "rows": conversations(0, 40), "held_out": conversations(40, 50),
        "seq_len": 64, "batch_size": 3, "steps": 12, "learning_rate": 3e-3, "evaluate_every": 3,
    }  # fmt: skip
    fields.update(changes)
    return Finetune(**{name: value for name, value in fields.items() if value is not None})


def options(**changes: Any) -> Options:
    return Options(**{"device": "cpu", "threads": 1, "checkpoint_seconds": 0.0, **changes})


def train(folder: Path, step: Finetune, **changes: Any) -> Model:
    with Session(folder, options=options(**changes), track=False, progress=False) as session:
        return session.run(step)


def train_until(folder: Path, step: Finetune, update: int, **changes: Any) -> None:
    """Start a training and ask it to stop when `update` was made; what it raises is raised."""
    reached = threading.Event()

    def listen(event: Event) -> None:
        if event.kind == "metric" and event.data["step"] >= update and "loss" in event.data["metrics"]:
            reached.set()
            handle.stop()

    with Session(folder, options=options(**changes), track=False, progress=False, on_event=listen) as session:
        handle = session.start(step)
        try:
            handle.wait(120)
        finally:
            assert reached.is_set()


def history(model: Artifact) -> list[dict[str, Any]]:
    """The series of a run, updates and evaluations in order."""
    return [json.loads(line) for line in (model.data / "history.jsonl").read_text().splitlines()]


def contents(model: Artifact) -> Mapping[str, bytes]:
    """Every file of a result."""
    return {
        path.relative_to(model.data).as_posix(): path.read_bytes()
        for path in sorted(model.data.rglob("*"))
        if path.is_file()
    }
