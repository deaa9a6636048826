"""Python functions that the tests of this folder ask as `python:tests.generate.teachers:NAME`: a small task, sums."""

from __future__ import annotations

import json
import random
import re
from typing import Any

Messages = list[dict[str, Any]]
Schema = dict[str, Any] | None

NUMBERS = re.compile(r"\d+")
GUESTS = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eve",
    "Finn",
    "Gus",
    "Hal",
    "Ida",
    "Jon",
    "Kim",
    "Lou",
    "Mia",
    "Ned",
    "Ola",
    "Pia",
)


def task_input(messages: Messages) -> str:
    return str(re.findall(r"<input>\n(.*?)\n</input>", messages[-1]["content"], re.DOTALL)[-1])


def total(text: str) -> int:
    return sum(int(number) for number in NUMBERS.findall(text))


def policy() -> str:
    return json.dumps(
        {
            "task_description": "Add the numbers.",
            "input_format": "A short sentence.",
            "output_format": "JSON with the sum.",
            "reasoning_style": "One line.",
            "key_constraints": ["Only the sum."],
            "difficulty": "easy",
            "reasoning_patterns": ["large numbers", "three numbers."],
            "examples_summary": "Some sums.",
        }
    )


def new_inputs(messages: Messages, sample: int) -> str:
    """Fresh sentences, drawn from the whole request."""
    number = int(re.findall(r"Write (\d+) new inputs", messages[-1]["content"])[0])
    rng = random.Random(f"{messages[-1]['content']} {sample}")
    texts = [f"{rng.choice(GUESTS)} has {rng.randrange(1000)} and gets {rng.randrange(1000)}" for _ in range(number)]
    return json.dumps({"inputs": texts})


def answer(text: str, schema: Schema) -> str:
    output: Any = {"sum": total(text)}
    if schema is not None and schema["properties"]["output"].get("type") == "string":
        output = str(total(text))
    return json.dumps({"thinking": f"add {' and '.join(NUMBERS.findall(text))}", "output": output})


def reply(messages: Messages, schema: Schema, sample: int) -> str:
    """Does everything right."""
    title = schema["title"] if schema is not None else None
    if title == "TaskPolicy":
        return policy()
    if title == "NewInputs":
        return new_inputs(messages, sample)
    if title == "ReasonedAnswer":
        return answer(task_input(messages), schema)
    return str(messages[-1]["content"]).upper()


def late(messages: Messages, schema: Schema, sample: int) -> str:
    """Comes to the right answer in its third sample only."""
    text = task_input(messages)
    return answer(text if sample == 2 else f"{text} 1", schema)


def wrong(messages: Messages, schema: Schema, sample: int) -> str:
    """Never comes to the right answer."""
    return answer(f"{task_input(messages)} 1", schema)


def wavering(messages: Messages, schema: Schema, sample: int) -> str:
    """Right in samples 1 and 2 of three; of sentences with `puzzle` it says another thing each time."""
    text = task_input(messages)
    if "puzzle" in text:
        return answer(f"{text} {sample}", schema)
    return json.dumps({"thinking": f"try {sample}", "output": {"sum": total(text) + (sample == 0)}})


def rubbish(messages: Messages, schema: Schema, sample: int) -> str:
    return f"As a friendly assistant I would say {sample}"


def sometimes_rubbish(messages: Messages, schema: Schema, sample: int) -> str:
    """Rubbish about sentences with `puzzle`."""
    if "puzzle" in messages[0]["content"]:
        return rubbish(messages, schema, sample)
    return reply(messages, schema, sample)
