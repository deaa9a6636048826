"""Replies of a local model: batched, with a key-value cache, greedy unless asked otherwise.

Axes: `B` rows still running, `T` positions, `V` vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import RecipeError, RowFault, TrainError
from ..text.chat import PREFIX, ChatRenderer
from ..text.tokenizer import load_tokenizer
from ._cache import RoomyLayer, roomy_cache
from .device import resolve_device, set_threads
from .guided import Guide, Guides
from .loading import base_of, load_model

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GenerationReply:
    """`finish` is `stop` where the model ended its turn (or wrote a stop text), `length` where it was cut off."""

    text: str
    finish: Literal["stop", "length"]
    num_prompt_tokens: int
    num_reply_tokens: int


@dataclass(slots=True)
class _Row:
    """One conversation on its way."""

    prompt: list[int]
    max_new_tokens: int
    draws: np.random.Generator | None
    reply: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] = "length"
    cut: int | None = None
    """Where a stop text begins in the decoded reply."""
    guide: Guide | None = None


class Generator:
    """A model folder ready to reply. Not for use from several threads at once.

    A reply does not depend on what else is in the batch, but for rounding.
    """

    def __init__(
        self, path: Path | str, device: str = "auto", threads: int | None = None, *, batch_size: int = 64
    ) -> None:
        folder = Path(path)
        self.device = resolve_device(device)
        self.batch_size = batch_size
        set_threads(threads)
        self.tokenizer: Any = load_tokenizer(tokenizer_folder(folder))
        dtype = torch.float32 if self.device.type == "cpu" else None
        self.model: Any = load_model(folder, device=self.device, dtype=dtype)
        self._renderer = ChatRenderer(self.tokenizer)
        config: Any = self.model.config
        self._config = config.get_text_config()
        self._ends = _end_ids(folder, self.tokenizer)
        self._pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else min(self._ends)
        self.max_length = int(getattr(self._config, "max_position_embeddings", 0) or 1 << 30)
        # One mask serves all layers only where all see everything; eager attention would add a mask of booleans.
        plain = all(isinstance(layer, RoomyLayer) for layer in roomy_cache(self._config, 1).layers)
        self._plain = plain and config._attn_implementation == "sdpa"
        self._guides: Guides | None = None

    def replies(
        self,
        conversations: Sequence[Sequence[Message]],
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        stop: Sequence[str] = (),
        schemas: Sequence[Mapping[str, Any] | None] = (),
    ) -> list[GenerationReply | RowFault]:
        """One reply for each conversation, in order; the chat template is applied here, once. A lone message of the
        role `prefix` is text that the model goes on from as it is.

        A conversation that cannot be rendered, or leaves no room for a reply, has its fault in that place. With a
        temperature above 0 each row draws by its own entry of `seeds`, so it does not matter with which others it runs.
        Where `schemas` has a JSON Schema for a conversation, its reply is held to that (`guided.py`); raises
        `ModelError` where the library for it is missing, or no grammar can say one of them (`check_schema`).
        """
        if temperature > 0 and seeds is not None and len(seeds) != len(conversations):
            raise ValueError(f"{len(seeds)} seeds for {len(conversations)} conversations")
        rows: list[_Row | RowFault] = []
        for number, conversation in enumerate(conversations):
            draws = np.random.default_rng(seeds[number] if seeds else number) if temperature > 0 else None
            try:
                row = self._row(conversation, max_new_tokens, draws)
            except RowFault as fault:
                rows.append(fault)
                continue
            schema = schemas[number] if schemas else None
            row.guide = None if schema is None else self._guided().of(schema)
            rows.append(row)
        by_length = sorted((row for row in rows if isinstance(row, _Row)), key=lambda row: len(row.prompt))
        for begin in range(0, len(by_length), self.batch_size):
            self._run(by_length[begin : begin + self.batch_size], temperature, tuple(stop))
        return [self._reply(row) if isinstance(row, _Row) else row for row in rows]

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raises `ModelError` where no reply can be held to it."""
        self._guided().of(schema)

    def _guided(self) -> Guides:
        if self._guides is None:
            self._guides = Guides(self.tokenizer, self._ends, int(self._config.vocab_size))
        return self._guides

    def _row(self, conversation: Sequence[Message], max_new_tokens: int, draws: np.random.Generator | None) -> _Row:
        prompt = self._prompt(conversation)
        room = self.max_length - len(prompt)
        if room < 1:
            raise RowFault("too_long", f"the prompt has {len(prompt)} tokens, the model takes {self.max_length}")
        return _Row(prompt, min(max_new_tokens, room), draws)

    def _prompt(self, conversation: Sequence[Message]) -> list[int]:
        if len(conversation) == 1 and conversation[0].get("role") == PREFIX:
            text = str(conversation[0].get("content"))
            ids: list[int] = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            if not ids:
                raise RowFault("invalid", "there is no text to go on from")
            return ids
        return self._renderer.prompt(conversation)

    def _reply(self, row: _Row) -> GenerationReply:
        text = self._text(row)
        if row.cut is not None:
            text = text[: row.cut]
        return GenerationReply(text, row.finish, len(row.prompt), len(row.reply))

    def _text(self, row: _Row) -> str:
        """What was written; a control token that is no end stays visible, for it is no answer."""
        text: str = self.tokenizer.decode(row.reply, skip_special_tokens=False)
        return text

    @torch.inference_mode()
    def _run(self, rows: list[_Row], temperature: float, stop: tuple[str, ...]) -> None:
        """Fill in `reply` and `finish` of a batch; rows that have ended leave it."""
        longest = max(len(row.prompt) for row in rows)
        capacity = longest + max(row.max_new_tokens for row in rows)
        padding = [longest - len(row.prompt) for row in rows]
        ids = torch.tensor([[self._pad] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)])
        seen = torch.ones(len(rows), capacity, dtype=torch.bool)
        for index, pad in enumerate(padding):
            seen[index, :pad] = False
        positions = (seen[:, :longest].long().cumsum(1) - 1).clamp(min=0)
        ids, seen, positions = ids.to(self.device), seen.to(self.device), positions.to(self.device)
        cache = roomy_cache(self._config, capacity)
        running = list(rows)
        logits = self._step(ids, positions, seen[:, :longest], cache)
        next_position = positions[:, -1:] + 1
        for filled in range(longest, capacity):
            chosen = _choose(_held(logits, running), running, temperature)
            ended = [self._ended(row, token, stop) for row, token in zip(running, chosen.tolist(), strict=True)]
            if all(ended):
                return
            if any(ended):
                kept = torch.tensor([index for index, done in enumerate(ended) if not done], device=self.device)
                running = [row for row, done in zip(running, ended, strict=True) if not done]
                chosen, seen, next_position = chosen[kept], seen[kept], next_position[kept]
                cache.batch_select_indices(kept)
            logits = self._step(chosen[:, None], next_position, seen[:, : filled + 1], cache)
            next_position = next_position + 1

    def _step(self, ids: Tensor, positions: Tensor, seen: Tensor, cache: Any) -> Tensor:
        """[B, V] logits of the next token, in float32."""
        single = ids.shape[1] == 1 and self._plain
        try:
            output = self.model(
                input_ids=ids,
                position_ids=positions,
                # For one new token the mask is which positions are there; longer inputs need the causal one on top.
                attention_mask=seen[:, None, None] if single else seen.long(),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except torch.OutOfMemoryError as error:
            raise TrainError(
                f"memory ran out while generating {ids.shape[0]} replies at once",
                "Lower `inference_batch` in the session's options.",
            ) from error
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _ended(self, row: _Row, token: int, stop: tuple[str, ...]) -> bool:
        """Take in the new token; whether the row is finished with it."""
        if token in self._ends:
            row.finish = "stop"
            return True
        row.reply.append(token)
        if row.guide is not None:
            row.guide.take(token)
        if stop:
            text = self._text(row)
            places = [place for word in stop if (place := text.find(word)) >= 0]
            if places:
                row.cut, row.finish = min(places), "stop"
                return True
        return len(row.reply) >= row.max_new_tokens


def _held(logits: Tensor, rows: Sequence[_Row]) -> Tensor:
    """[B, V] with what a row's guide does not allow out of reach."""
    for place, row in enumerate(rows):
        if row.guide is not None:
            allowed = torch.from_numpy(row.guide.allowed()).to(logits.device)
            logits[place, : len(allowed)].masked_fill_(~allowed, -torch.inf)
            logits[place, len(allowed) :] = -torch.inf
    return logits


def _choose(logits: Tensor, rows: Sequence[_Row], temperature: float) -> Tensor:
    """[B] next tokens: the likeliest, or by one uniform draw of each row's own generator."""
    if temperature <= 0:
        return logits.argmax(dim=-1)
    shares = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    draws = torch.tensor([[row.draws.random()] for row in rows if row.draws is not None], dtype=torch.float64)
    draws = draws.to(logits.device) * shares[:, -1:]
    return torch.searchsorted(shares, draws, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)


def _end_ids(folder: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a turn: the tokenizer's end token and those that the model's generation config names."""
    ends = {tokenizer.eos_token_id}
    for place in (folder, base_of(folder)):
        path = place / "generation_config.json"
        if path.is_file():
            named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends |= set(named) if isinstance(named, list) else {named}
    found = frozenset(int(end) for end in ends if end is not None)
    if not found:
        raise RecipeError(f"`{folder}` names no end token, so its replies would never end")
    return found


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of a model folder is: there, or with the base of an adapter."""
    return folder if (folder / "tokenizer_config.json").is_file() else base_of(folder)
