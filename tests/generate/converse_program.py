"""Holds conversations in a store of its own, slowly, and writes what came out: a program for tests to kill."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from stillhouse.calls.ask import Ask
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.converse import Converse
from stillhouse.rows.import_ import Import

LOG = "STILLHOUSE_TEST_LOG"
ROWS = Import(data=tuple({"who": f"person {n}"} for n in range(40)), require=())


async def reply(messages: list[dict[str, Any]], schema: dict[str, Any] | None, sample: int) -> str:
    """Takes its time, and notes each request."""
    text = messages[-1]["content"]
    with open(os.environ[LOG], "a", encoding="utf-8") as log:  # noqa: ASYNC230 - one short line
        log.write(json.dumps([schema is None, messages[0]["content"], len(messages), text]) + "\n")
    await asyncio.sleep(0.05)
    return f"answer to {text!r}"[:40] if schema is None else json.dumps({"message": f"say {len(text)}"})


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    os.environ[LOG] = str(folder / "asked")
    by = Ask(model="python:tests.generate.converse_program:reply")
    step = Converse(rows=ROWS, by=by, opening="I am {{ who }}.", turns=3, may_leave=False)
    options = Options(chunk=10, first_look=5)
    with Session(folder / "store", options=options, concurrency=8, track=False, progress=False) as session:
        made = session.run(step)
    (folder / "digest").write_text(made.digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
