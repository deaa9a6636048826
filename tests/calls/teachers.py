"""Python functions that tests ask as `python:tests.calls.teachers:NAME`."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from stillhouse.calls.reply import Reply, ToolCall, Usage, own_reply
from stillhouse.core.errors import RowFault

Messages = list[dict[str, Any]]

finished: list[str] = []
threads: set[int] = set()


def reply(messages: Messages, schema: dict[str, Any] | None, sample: int) -> str:
    """The last message in capitals, with the sample's number from the second on."""
    threads.add(threading.get_ident())
    text = str(messages[-1]["content"]).upper()
    return f"{text} #{sample}" if sample else text


def moody(messages: Messages, schema: dict[str, Any] | None, sample: int) -> Any:
    """Fails in all the ways a function can."""
    text = messages[-1]["content"]
    if text == "refuse":
        raise RowFault("refused", "I would rather not", "…")
    if text == "break":
        raise ZeroDivisionError("by nothing")
    if text == "number":
        return 7
    return text


async def patient(messages: Messages, schema: dict[str, Any] | None, sample: int) -> str:
    """`slow` is answered when sixty others were."""
    text = str(messages[-1]["content"])
    # An event would be at hand, but a function that reaches one has no stable form and so no identity.
    while text == "slow" and len(finished) < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    finished.append(text)
    return "ok"


def handy(messages: Messages, schema: dict[str, Any] | None, sample: int) -> Reply:
    """Wants a tool called until it was."""
    if messages[-1]["role"] == "tool":
        return own_reply("Take a hat.", usage=Usage(7, 3))
    return own_reply("", "tools", tool_calls=[ToolCall("call_1", "weather", {"place": "Bern"})])


async def moody_later(messages: Messages, schema: dict[str, Any] | None, sample: int) -> Any:
    await asyncio.sleep(0)
    return moody(messages, schema, sample)


def orders(messages: Messages, schema: dict[str, Any] | None, sample: int) -> str:
    """What all providers of the contract test reply: it echoes, refuses, gives JSON, and tells samples apart."""
    text = str(messages[-1]["content"])
    if text == "refuse":
        raise RowFault("refused", "I would rather not")
    if schema is not None:
        return json.dumps({"said": text, "title": schema["title"]})
    turns = " ".join(message["role"][0] for message in messages)
    return f"{text} ({turns}, sample {sample})"


async def orders_later(messages: Messages, schema: dict[str, Any] | None, sample: int) -> str:
    await asyncio.sleep(0.001)
    return orders(messages, schema, sample)
