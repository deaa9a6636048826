"""Holding conversations: whose turn it is, what is shown to whom, when it is over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls.ask import Ask
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Row
from ..measure.function_verifier import name_of
from ._asking import SAMPLE, refuse_taken, reply_schema, sampled, talked_through
from .template import Template

if TYPE_CHECKING:
    from .converse import Converse

NAME = "Converse"
NUM_TURNS = "num_turns"
PLAY = """\
You play a person who talks to an assistant.{scenario}
{so_far}
Write in `message` what the person says {when}: in their own voice and spelling, as people type, no longer than they
would. Do not answer like an assistant, and neither explain nor praise what the assistant does.{leave}"""
SO_FAR = """
The conversation so far, where `user` is the person:
{lines}
"""
LEAVE = (
    " Set `finished` to true, with an empty message, when the person has what they came for or would go; to false else."
)
MESSAGE = {"message": {"type": "string"}}
SAID = reply_schema("UserMessage", **MESSAGE)
SAID_OR_GONE = reply_schema("UserMessage", **MESSAGE, finished={"type": "boolean"})
Messages = list[dict[str, Any]]


class Conversations:
    """The mapper's work, row by row."""

    def __init__(self, step: Converse, context: Context) -> None:
        added = (step.column, NUM_TURNS, *((SAMPLE,) if step.samples > 1 else ()))
        refuse_taken(NAME, context.get(step.rows), added, "Take it away: `Select(without=…)`.")
        self._step = step
        self._calls = context.calls
        self._user: Ask = step.user or step.by
        self._opening, self._scenario, self._system = (
            None if text is None else Template(text) for text in (step.opening, step.scenario, step.system)
        )
        self.mapper = talked_through(sampled(self.of, step.samples))

    async def of(self, row: Row, sample: int) -> Emit:
        """A conversation of a row."""
        messages: Messages = [] if self._system is None else [{"role": "system", "content": self._system(row)}]
        opening = None if self._opening is None else self._opening(row)
        scenario = "" if self._scenario is None else f" {self._scenario(row)}"
        if opening is not None and not opening.strip():
            raise RowFault("empty", f"row {row.get('_id', '?')}: `opening` says nothing")
        calls: list[str] = []
        num_turns = 0
        for turn in range(self._step.turns):
            try:
                said = opening if turn == 0 else None
                if said is None:
                    said = await self._said(messages, scenario, turn, sample, calls)
                if said is None:
                    break
                messages.append({"role": "user", "content": said})
                answer = await self._calls.ask(self._step.by, list(messages), sample=sample)
            except RowFault as fault:
                raise _in_turn(fault, turn + 1, messages) from None
            calls += answer.keys
            messages.append({"role": "assistant", "content": answer.text})
            num_turns += 1
            if self._is_over(messages):
                break
        return Emit(({**row, self._step.column: messages, NUM_TURNS: num_turns},), calls)

    async def _said(self, messages: Messages, scenario: str, turn: int, sample: int, calls: list[str]) -> str | None:
        """The next message of the user; None where they go."""
        leaves = self._step.may_leave and turn > 0
        spoken = [message for message in messages if message["role"] != "system"]
        question = PLAY.format(
            scenario=scenario,
            so_far=SO_FAR.format(lines=transcript(spoken)) if spoken else "",
            when="next" if spoken else "to begin with",
            leave=LEAVE if leaves else "",
        )
        answer = await self._calls.ask(self._user, question, schema=SAID_OR_GONE if leaves else SAID, sample=sample)
        calls += answer.keys
        if leaves and answer.value["finished"]:
            return None
        said = str(answer.value["message"]).strip()
        if not said:
            raise RowFault("empty", "the user says nothing", answer.text)
        return said

    def _is_over(self, messages: Messages) -> bool:
        until = self._step.until
        if until is None:
            return False
        try:
            found = until([dict(message) for message in messages])
        except Exception as error:
            raise RowFault("error", f"`{name_of(until)}`: {type(error).__name__}: {error}") from error
        if isinstance(found, bool):
            return found
        raise RecipeError(
            f"{NAME}: `{name_of(until)}` returned {found!r:.80} ({type(found).__name__})",
            "Return True where the conversation is over, else False.",
        )


def transcript(messages: Sequence[dict[str, Any]]) -> str:
    """What was said, a line each; texts as JSON, so that their own line ends do not confuse."""
    return "\n".join(f"{message['role']}: {json.dumps(message['content'], ensure_ascii=False)}" for message in messages)


def _in_turn(fault: RowFault, turn: int, messages: Messages) -> RowFault:
    """The fault with the turn it came in, and, where it has no words of its own, with what was said before."""
    raw = fault.raw or (json.dumps(messages, ensure_ascii=False) if messages else None)
    return RowFault(fault.kind, f"turn {turn}: {fault.message}", raw)
