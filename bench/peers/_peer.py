"""What the script of an engine is given, and what it says at its end.

    PYTHON bench/peers/ask_NAME.py URL ROWS WIDTH FOLDER

It asks the server at URL about ROWS prompts, WIDTH of them at once, keeps in FOLDER whatever it wants to find there the
next time, and writes FOLDER.json. What that cost is measured by whoever started it. (A script that had
the name of its library would hide it, hence `ask_`.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    url: str
    prompts: list[str]
    width: int
    folder: Path


def task() -> Task:
    url, rows, width, folder = sys.argv[1:]
    sentence = "tell me what the following order says, in the words of the house. "
    return Task(url, [f"#{number}# {sentence * 6}" for number in range(int(rows))], int(width), Path(folder))


def finish(task: Task, replies: Iterable[object], distribution: str) -> None:
    """Says how many of the replies are there, and of which version they are."""
    good = sum(isinstance(reply, str) and reply.startswith("word") for reply in replies)
    told = {"good": good, "version": f"{distribution} {metadata.version(distribution)}"}
    Path(f"{task.folder}.json").write_text(json.dumps(told))
