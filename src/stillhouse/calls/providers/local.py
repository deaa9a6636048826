"""A model folder of this machine as a provider: batched, with a key-value cache, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.core.errors import ModelError, RowFault

from ..repair import asked_in_words
from ..reply import Reply, Usage, own_reply
from ..request import Request, Sampling
from .protocol import Answered

if TYPE_CHECKING:
    from stillhouse.models.generate import GenerationReply, Generator

_DEFAULT_MAX_TOKENS = 512
_BATCHES_AT_ONCE = 4  # between two commits; the generator sorts them by length, so that little is spent on padding


class LocalModel:
    """A folder that transformers loads, `Model` artifacts among them. It is loaded when first asked."""

    def __init__(self, folder: Path, *, device: str, threads: int | None, batch: int) -> None:
        self.num_batches = 0
        """Times that requests were answered together."""
        self._folder = folder
        self._device = device
        self._threads = threads
        self._batch = batch
        self._generator: Generator | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stillhouse-local-model")
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Reply:
        """One reply; requests that wait at the same time are answered as a batch."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._answer_waiting())
        return await answer

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        del seconds  # a batch takes as long as it takes
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, requests)

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._generator = None

    def _answers(self, requests: Sequence[Request]) -> list[Answered]:
        self.num_batches += 1
        chosen = requests[: self._batch * _BATCHES_AT_ONCE]
        for request in chosen:
            _check_extras(request)
        sampling = chosen[0].sampling
        places = [place for place, request in enumerate(chosen) if request.sampling == sampling]
        replies = self._loaded().replies(
            [asked_in_words(chosen[place]) for place in places],
            max_new_tokens=sampling.max_tokens or _DEFAULT_MAX_TOKENS,
            temperature=_temperature(sampling),
            seeds=[int.from_bytes(chosen[place].key[:7]) for place in places],
            stop=sampling.stop,
        )
        return [(place, _reply(reply)) for place, reply in zip(places, replies, strict=True)]

    async def _answer_waiting(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # lets callers of the same moment join the batch
            taken, self._waiting = self._waiting, []
            while taken:
                requests = [request for request, _ in taken]
                try:
                    answered = await self.ask_some(requests, 0.0)
                except Exception as error:
                    for _, answer in taken:
                        _tell(answer, error)
                    break
                for place, outcome in answered:
                    _tell(taken[place][1], outcome)
                done = {place for place, _ in answered}
                taken = [item for place, item in enumerate(taken) if place not in done]

    def _loaded(self) -> Generator:
        if self._generator is None:
            from stillhouse.models.generate import Generator

            self._generator = Generator(self._folder, self._device, self._threads, batch_size=self._batch)
        return self._generator


def _temperature(sampling: Sampling) -> float:
    if sampling.top_p is not None:
        raise ModelError("local models sample by temperature alone", "Leave `top_p` out.", kind="rejected")
    return sampling.temperature or 0.0


def _check_extras(request: Request) -> None:
    """Raise for what would otherwise be asked for and not done."""
    asked = request.extras.form()
    if asked.get("structured") == "prompt":
        del asked["structured"]
    if asked:
        names = ", ".join(f"`{name}`" for name in asked)
        hint = "Leave it out, or serve the model and ask it by `endpoint=`, or by `vllm:FOLDER`."
        raise ModelError(f"local models know no {names}", hint, kind="rejected")


def _reply(found: GenerationReply | RowFault) -> Reply | RowFault:
    if isinstance(found, RowFault):
        return found
    return own_reply(found.text, found.finish, Usage(found.num_prompt_tokens, found.num_reply_tokens))


def _tell(answer: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
