"""The orders distillation in its smallest form: the victim of the fault tests.

    python tests/faults/distil_program.py FOLDER [URL [rows]]

The teacher is asked at URL, an OpenAI-compatible server, or in this process; both are declared as one deployment. With
`rows` it ends with the rows to train on. Waiting and warnings are told on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from examples.orders.demo import INSTRUCTION
from examples.orders.schema import Order, verify
from stillhouse.calls.ask import Ask
from stillhouse.core.artifact import Rows
from stillhouse.core.events import Event
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.recipes.distillation import distillation
from stillhouse.recipes.scratch import Scratch

ORDERS = Path(__file__).resolve().parents[2] / "examples" / "orders"
DEPLOYMENT = "orders-teacher"
CONCURRENCY = 4


def rows(name: str, count: int) -> list[dict[str, Any]]:
    """The first rows of one of the example's files."""
    return [json.loads(line) for line in (ORDERS / name).read_text().splitlines()[:count]]


def task(url: str | None = None) -> dict[str, Any]:
    """What the distillation is."""
    return {
        "seed": rows("seeds.jsonl", 6),
        "instruction": INSTRUCTION,
        "teacher": Ask(model="python:examples.orders.teacher" if url is None else "openai/it", deployment=DEPLOYMENT),
        "student": Scratch(vocab_size=300, hidden=16, layers=1, heads=2),
        "augment_factor": 8,
        "response_model": Order,
        "verify": verify,
        "held_out": rows("test.jsonl", 12),
        "max_tokens": 8,
        "finetune": {"epochs": 2.0, "batch_size": 4, "seq_len": 384},
        "seeds_only": {"epochs": 2.0},
    }


def place(url: str | None = None) -> dict[str, Any]:
    """Where and how it is made."""
    return {
        "endpoints": None if url is None else {DEPLOYMENT: url},
        "concurrency": CONCURRENCY,
        "options": Options(device="cpu", threads=1, checkpoint_seconds=0.0),
        "on_event": tell,
        "progress": False,
    }


def tell(event: Event) -> None:
    if event.kind in ("step.waiting", "warning"):
        print(event.data["message"], flush=True)


def make_rows(folder: str | Path, url: str | None = None, **changes: Any) -> Rows:
    """The rows to train on; `changes` go to the session."""
    with Session(folder, **{**place(url), "track": False, **changes}) as session:
        return session.run(distillation(**task(url)).train, name="orders")


def main(folder: str, url: str | None = None, goal: str = "student") -> None:
    if goal == "rows":
        make_rows(folder, url)
        return
    from stillhouse.recipes.distill import distill

    distill(name="orders", output=folder, **task(url), **place(url))


if __name__ == "__main__":
    main(*sys.argv[1:])
