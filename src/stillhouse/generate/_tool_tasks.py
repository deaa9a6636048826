"""Drawing the tools that are needed, and asking for tasks."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Made, Row
from ._asking import AsyncMapper, asked_at_once, reply_schema
from .tool_tasks import NUMBER
from .tools import tool_form

if TYPE_CHECKING:
    from .tool_tasks import ToolTasks

WORDS = """\
An assistant can call these tools:

{tools}

Write {count} tasks that people might give to it, each as they would type it. To solve one, the assistant must need
{need}, and must find in the task what it calls {them} with: names, numbers, dates, made up but possible. The tasks must
differ from each other in what they ask for, in their wording and in their length, and say nothing about tools."""
TASKS = reply_schema("ToolTasks", tasks={"type": "array", "items": {"type": "string"}})


def inventor(step: ToolTasks, context: Context) -> AsyncMapper:
    told = [tool_form(tool) for tool in step.tools]

    def needed(number: int) -> list[dict[str, Any]]:
        rng = random.Random(f"{step.seed}:{number}")
        return rng.sample(told, rng.randint(1, min(step.most_needed, len(told))))

    def count(number: int) -> int:
        return min(step.per_call, max(1, step.num - number * step.per_call))

    def questions(row: Row) -> Sequence[Question]:
        number = int(row[NUMBER])
        tools = needed(number)
        words = WORDS.format(
            tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools),
            count=count(number),
            need="this tool" if len(tools) == 1 else "all of these tools",
            them="it" if len(tools) == 1 else "them",
        )
        return (Question(words, TASKS, number),)

    def read(row: Row, place: int, answer: Answer) -> Made:
        del place
        number = int(row[NUMBER])
        names = [tool["name"] for tool in needed(number)]
        tasks = [task.strip() for task in answer.value["tasks"] if task.strip()][: count(number)]
        if not tasks:
            raise RowFault("empty", "the reply holds no tasks", answer.text)
        return Emit([{step.column: task, "needs": names} for task in tasks], answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)
