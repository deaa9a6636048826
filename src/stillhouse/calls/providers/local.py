"""A model folder of this machine as a provider: batched, with a key-value cache, in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import ModelError, RowFault

from ..repair import asked_in_words
from ..reply import Reply, Usage, own_reply
from ..request import Request, Sampling
from .in_thread import InThread
from .protocol import Answered

if TYPE_CHECKING:
    from stillhouse.models.generate import GenerationReply, Generator

_DEFAULT_MAX_TOKENS = 512
_BATCHES_AT_ONCE = 4  # between two commits; the generator sorts them by length, so that little is spent on padding


class LocalModel(InThread):
    """A folder that transformers loads, `Model` artifacts among them. It is loaded when first asked."""

    def __init__(self, folder: Path, *, device: str, threads: int | None, batch: int) -> None:
        super().__init__("local-model")
        self.num_batches = 0
        """Times that requests were answered together."""
        self._folder = folder
        self._device = device
        self._threads = threads
        self._batch = batch
        self._generator: Generator | None = None

    async def close(self) -> None:
        await super().close()
        self._generator = None

    def answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        del seconds  # a batch takes as long as it takes
        self.num_batches += 1
        chosen = requests[: self._batch * _BATCHES_AT_ONCE]
        refused = [(place, error) for place, request in enumerate(chosen) if (error := self._refusal(request))]
        if refused:  # the others come again
            return [*refused]
        sampling = chosen[0].sampling
        places = [place for place, request in enumerate(chosen) if request.sampling == sampling]
        replies = self._loaded().replies(
            [asked_in_words(chosen[place]) for place in places],
            max_new_tokens=sampling.max_tokens or _DEFAULT_MAX_TOKENS,
            temperature=_temperature(sampling),
            seeds=[int.from_bytes(chosen[place].key[:7]) for place in places],
            stop=sampling.stop,
            schemas=[_held_to(chosen[place]) for place in places],
        )
        return [(place, _reply(reply)) for place, reply in zip(places, replies, strict=True)]

    def _refusal(self, request: Request) -> ModelError | None:
        """What this request cannot be asked for; those of other steps, which wait beside it, can."""
        try:
            _check_extras(request)
            if (schema := _held_to(request)) is not None:
                self._loaded().check_schema(schema)
        except ModelError as error:
            return error
        return None

    def _loaded(self) -> Generator:
        if self._generator is None:
            from stillhouse.models.generate import Generator

            self._generator = Generator(self._folder, self._device, self._threads, batch_size=self._batch)
        return self._generator


def _temperature(sampling: Sampling) -> float:
    if sampling.top_p is not None:
        raise ModelError("local models sample by temperature alone", "Leave `top_p` out.", kind="rejected")
    return sampling.temperature or 0.0


def _held_to(request: Request) -> Mapping[str, Any] | None:
    """The schema that the reply is held to while it is written. Only a recipe can say so, as it makes other replies."""
    return request.schema.form if request.schema is not None and request.extras.structured == "native" else None


def _check_extras(request: Request) -> None:
    """Raise for what would otherwise be asked for and not done."""
    asked = request.extras.form()
    if asked.get("structured") in ("prompt", "native"):
        del asked["structured"]
    if asked:
        names = ", ".join(f"`{name}`" for name in asked)
        hint = "Leave it out, or serve the model and ask it by `endpoint=`, or by `vllm:FOLDER`."
        raise ModelError(f"local models know no {names}", hint, kind="rejected")


def _reply(found: GenerationReply | RowFault) -> Reply | RowFault:
    if isinstance(found, RowFault):
        return found
    return own_reply(found.text, found.finish, Usage(found.num_prompt_tokens, found.num_reply_tokens))
