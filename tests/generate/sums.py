"""Steps over the task of `teachers`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from stillhouse.calls.ask import Ask
from stillhouse.core.artifact import Rows
from stillhouse.generate.amplify import Amplify
from stillhouse.generate.policy import ExtractPolicy
from stillhouse.rows.import_ import Import

INSTRUCTION = "Add the numbers."
TEACHER = "python:tests.generate.teachers"
SEEDS = Import(
    data=(
        {"input": "Ann has 3 and gets 4", "output": {"sum": 7}},
        {"input": "Bob has 10 and gets 20, then 5", "output": {"sum": 35}},
        {"input": "Cy: 1 + 1", "output": {"sum": 2}},
    )
)


class Sum(BaseModel):
    sum: int


def by(name: str = "reply", **settings: Any) -> Ask:
    return Ask(model=f"{TEACHER}:{name}", **settings)


def inputs(*texts: str) -> Import:
    return Import(data=tuple({"input": text} for text in texts), require=("input",))


POLICY = ExtractPolicy(rows=SEEDS, by=by(), instruction=INSTRUCTION)


def amplify(model: str | Ask, factor: float = 10, **fields: Any) -> Amplify:
    asked = model if isinstance(model, Ask) else by(model)
    return Amplify(rows=SEEDS, policy=POLICY, by=asked, instruction=INSTRUCTION, factor=factor, **fields)


def content(rows: Rows) -> list[dict[str, Any]]:
    """The rows without their ids."""
    return [{name: value for name, value in row.items() if name != "_id"} for row in rows]
