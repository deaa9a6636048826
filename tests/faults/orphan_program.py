"""Runs a step in a child that never ends, in the store it is given; with a second argument, one that ends."""

from __future__ import annotations

import os
import sys

from stillhouse.core.artifact import Files, Rows
from stillhouse.core.context import Context
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from tests.core.steps import Numbers


class Endless(Step[Files], tag="tests.endless/1"):
    """Writes a file of its own and goes on until `ORPHAN_MAY_END` is set; the number of its process stands in `pid`."""

    isolated = True
    rows: Step[Rows]

    def run(self, context: Context) -> None:
        import time

        (context.scratch / "pid").write_text(str(os.getpid()))
        if os.environ.get("ORPHAN_MAY_END") is None:
            (context.folder / "of-the-first").touch()
            while True:
                time.sleep(0.01)
        (context.folder / "of-the-second").touch()


def tell(event: Event) -> None:
    if event.kind == "step.waiting":
        print(event.data["message"], flush=True)


def main(folder: str) -> None:
    from tests.faults.orphan_program import Endless as step  # as the child finds it, not as `__main__`

    with Session(folder, track=False, progress=False, on_event=tell) as session:
        made = session.run(step(rows=Numbers(count=3)))
        print(sorted(path.name for path in made.data.iterdir()))


if __name__ == "__main__":
    main(*sys.argv[1:])
