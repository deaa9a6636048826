"""Amplifies seeds in a store of its own, slowly, and writes what came out: a program for tests to kill."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from stillhouse.calls.ask import Ask
from stillhouse.core.session import Session
from tests.generate import teachers
from tests.generate.sums import amplify

LOG = "STILLHOUSE_TEST_LOG"


async def reply(messages: teachers.Messages, schema: teachers.Schema, sample: int) -> str:
    """Takes its time over new inputs, and notes each request for them."""
    if schema is not None and schema["title"] == "NewInputs":
        with open(os.environ[LOG], "a", encoding="utf-8") as log:  # noqa: ASYNC230 - one short line
            log.write(f"{sample}\n")
        await asyncio.sleep(0.05)
    return teachers.reply(messages, schema, sample)


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    os.environ[LOG] = str(folder / "asked")
    with Session(folder / "store") as session:
        made = session.run(amplify(Ask(model="python:tests.generate.amplify_program:reply"), 60, window=2))
    (folder / "digest").write_text(made.digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
