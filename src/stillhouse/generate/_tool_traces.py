"""The loop of a model with tools: it asks for calls, they are checked and made, it is told what they gave."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..calls.reply import ToolCall
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Drop, Emit, Made, Row
from ..measure._sandbox import Home, call_tool
from ..measure.function_verifier import home_of
from ..rows.transform import lacks, missing_column
from ..text.schema import Misfit, Schema
from ._asking import SAMPLE, refuse_taken, reply_schema, sampled, talked_through, text_of
from .template import Template
from .tools import tool_form

if TYPE_CHECKING:
    from .tool_traces import ToolTraces

NAME = "ToolTraces"
TOOLS = "tools"
LONGEST = 20_000
"""Characters of what a tool gave that a model is told: more would fill its window."""
PLAY = """\
You play a tool that a program calls. Answer as the tool would: with the data it returns and nothing else, as JSON where
that is its way. Make up what it would know, in keeping with what it gave before. Where the arguments make no sense to
it, answer with its error message.

The tool: {tool}
{before}
It is called with: {arguments}"""
BEFORE = """
What was called before in this conversation:
{lines}
"""
RESULT = reply_schema("ToolResult", result={"type": "string"})


class Mistake(Exception):
    """A call that cannot be made, or that failed."""


class Known(NamedTuple):
    """A tool with what a model is told of it, the check of its arguments, and where its function is."""

    told: Mapping[str, Any]
    schema: Schema
    home: Home | None


class Traces:
    """The mapper's work, row by row."""

    def __init__(self, step: ToolTraces, context: Context) -> None:
        source = context.get(step.rows)
        if lacks(source, step.input):
            raise missing_column(NAME, step.input, source.columns)
        added = (step.column, TOOLS, *((SAMPLE,) if step.samples > 1 else ()))
        refuse_taken(NAME, source, added, "Take it away: `Select(without=…)`.")
        self._step = step
        self._calls = context.calls
        told = [tool_form(tool) for tool in step.tools]
        self._by = step.by.replace(tools=tuple(told))
        self._told = json.dumps(told, ensure_ascii=False)
        self._known = {
            str(form["name"]): Known(
                form, Schema(form["parameters"]), None if isinstance(tool, Mapping) else home_of(tool)
            )
            for tool, form in zip(step.tools, told, strict=True)
        }
        self._system = None if step.system is None else Template(step.system)
        self.mapper = talked_through(sampled(self.of, step.samples))

    async def of(self, row: Row, sample: int) -> Made:
        """The trace of a row, or why there is none."""
        step = self._step
        messages: list[dict[str, Any]] = [] if self._system is None else [_message("system", self._system(row))]
        messages.append(_message("user", text_of(NAME, row, step.input)))
        calls: list[str] = []
        num_called = 0
        for reply in range(step.rounds):
            try:
                answer = await self._calls.ask(self._by, list(messages), sample=sample)
                calls += answer.keys
                if not answer.tool_calls:
                    if step.must_use and not num_called:
                        return Drop("no tool was called", answer.text)
                    messages.append(_message("assistant", answer.text))
                    return Emit(({**row, step.column: messages, TOOLS: self._told},), calls)
                wanted = [call._replace(id=f"call_{num_called + n + 1}") for n, call in enumerate(answer.tool_calls)]
                messages.append(_message("assistant", answer.text, tool_calls=[_written(call) for call in wanted]))
                for call in wanted:
                    num_called += 1
                    try:
                        text = await self._called(call, messages, sample, calls)
                    except Mistake as mistake:
                        if step.mistakes == "drop":
                            return Drop(str(mistake), _shown(messages))
                        text = json.dumps({"error": str(mistake)}, ensure_ascii=False)
                    messages.append(_message("tool", text, tool_call_id=call.id, name=call.name))
            except RowFault as fault:
                raise RowFault(
                    fault.kind, f"reply {reply + 1}: {fault.message}", fault.raw or _shown(messages)
                ) from None
        return Drop(f"there is no answer after {step.rounds} replies", _shown(messages))

    async def _called(
        self, call: ToolCall, messages: Sequence[Mapping[str, Any]], sample: int, calls: list[str]
    ) -> str:
        """What a call gives; raises `Mistake` where it cannot be made or fails."""
        tool = self._known.get(call.name)
        if tool is None:
            raise Mistake(f"there is no tool `{call.name}`: there are {', '.join(self._known)}")
        if not isinstance(call.arguments, dict):
            raise Mistake(f"the arguments of `{call.name}` are no JSON object: {str(call.arguments)[:200]!r}")
        try:
            arguments = tool.schema.check(call.arguments)
        except Misfit as misfit:
            raise Mistake(f"the arguments of `{call.name}` do not follow its schema: {misfit}") from None
        if tool.home is None:
            text = await self._played(tool, call, messages, sample, calls)
        else:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(_threads(), call_tool, tool.home, arguments, self._step.limits)
            if found.reason is not None:
                raise Mistake(f"`{call.name}` failed: {found.reason}")
            text = found.text
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} … (cut: {len(text)} characters in all)"

    async def _played(
        self, tool: Known, call: ToolCall, messages: Sequence[Mapping[str, Any]], sample: int, calls: list[str]
    ) -> str:
        assert self._step.simulator is not None
        before = _earlier(messages)
        question = PLAY.format(
            tool=json.dumps(dict(tool.told), ensure_ascii=False),
            before=BEFORE.format(lines="\n".join(before)) if before else "",
            arguments=json.dumps(call.arguments, ensure_ascii=False),
        )
        answer = await self._calls.ask(self._step.simulator, question, schema=RESULT, sample=sample)
        calls += answer.keys
        return str(answer.value["result"])


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that wait for tools. A worker of the sandbox is made for each call under way: not more than cores."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="stillhouse-tool")


def _earlier(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each call that was answered."""
    arguments = {
        call["id"]: call["function"]["arguments"] for message in messages for call in message.get("tool_calls") or ()
    }
    return [
        f"{message['name']}({arguments[message['tool_call_id']]}) gave {message['content']}"
        for message in messages
        if message["role"] == "tool"
    ]


def _message(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def _written(call: ToolCall) -> dict[str, Any]:
    """A call as messages hold it: the arguments as JSON text, so that those of all tools go into one column."""
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(messages, ensure_ascii=False)
