"""An encoder of this machine as a model of vectors: token vectors by transformers, one of them by pooling.

Axes: `B` texts, `T` tokens, `D` width.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embed_folder import Encoder, read_encoder
from ..reply import Usage
from .embed_protocol import EmbedForm, Limits, Made

_BATCHES_AT_ONCE = 8  # between two commits; they are sorted by length, so that little is spent on padding


class LocalEmbeddings:
    """A folder that transformers loads. It is loaded when first asked; all work is done in a thread of its own."""

    def __init__(self, folder: Path, *, device: str, threads: int | None, batch: int) -> None:
        self._folder = folder
        self._device = device
        self._threads = threads
        self._batch = batch
        self._encoder: LoadedEncoder | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stillhouse-local-embedder")

    @property
    def limits(self) -> Limits:
        return Limits(self._batch * _BATCHES_AT_ONCE)

    async def embed(self, texts: Sequence[str], form: EmbedForm) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._made, texts, form)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._encoder = None

    def _made(self, texts: Sequence[str], form: EmbedForm) -> Made:
        parts = read_encoder(self._folder, form.pooling)
        if self._encoder is None:
            self._encoder = LoadedEncoder(parts, self._device, self._threads)
        return self._encoder.made(texts, parts.pooling, self._batch)


class LoadedEncoder:
    """An encoder in memory."""

    def __init__(self, parts: Encoder, device: str, threads: int | None) -> None:
        from stillhouse.models.device import resolve_device, set_threads
        from stillhouse.models.encoder import load_encoder, longest_input
        from stillhouse.text.tokenizer import load_tokenizer

        set_threads(threads)
        self._device = resolve_device(device)
        self._tokenizer: Any = load_tokenizer(parts.weights)
        self._model: Any = load_encoder(parts.weights, self._device)
        self._cut = longest_input(self._model.config, self._tokenizer, parts.longest)
        self._dense = [_layer(place, self._device) for place in parts.dense]
        self._lower = parts.lower

    def made(self, texts: Sequence[str], pooling: str, batch: int) -> Made:
        """Vectors in the order of the texts."""
        import torch

        cut = self._cut
        given = [text.lower() for text in texts] if self._lower else list(texts)
        ids = self._tokenizer(given, truncation=cut is not None, max_length=cut)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        rows: list[NDArray[np.float32] | None] = [None] * len(ids)
        for begin in range(0, len(order), batch):
            places = order[begin : begin + batch]
            with torch.inference_mode():
                vectors = self._forward([ids[place] for place in places], pooling)
            for place, vector in zip(places, vectors, strict=True):
                rows[place] = vector
        made = np.stack([row for row in rows if row is not None])
        return Made(made, Usage(sum(map(len, ids))))

    def _forward(self, ids: Sequence[Sequence[int]], pooling: str) -> NDArray[np.float32]:
        import torch

        longest = max(1, *map(len, ids))
        pad = self._tokenizer.pad_token_id or 0
        tokens_BT = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in ids], device=self._device)
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        mask_BT = (torch.arange(longest, device=self._device)[None] < lengths[:, None]).long()
        hidden_BTD = self._model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state.float()
        pooled_BD = pooled(hidden_BTD, mask_BT, pooling)
        for layer in self._dense:
            pooled_BD = layer(pooled_BD)
        found: NDArray[np.float32] = pooled_BD.cpu().numpy().astype(np.float32)
        return found


def pooled(hidden_BTD: Any, mask_BT: Any, pooling: str) -> Any:
    """One vector a text of its tokens' vectors, padding (mask 0, on the right) left out."""
    import torch

    mask_BT1 = mask_BT[:, :, None].to(hidden_BTD.dtype)
    if pooling == "cls":
        return hidden_BTD[:, 0]
    if pooling == "last":
        last_B = (mask_BT.sum(1) - 1).clamp(min=0)
        return hidden_BTD[torch.arange(len(hidden_BTD), device=hidden_BTD.device), last_B]
    if pooling == "max":
        return hidden_BTD.masked_fill(mask_BT1 == 0, -torch.inf).amax(1)
    return (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")


def _layer(place: Path, device: Any) -> Any:
    import torch
    from safetensors.torch import load_file

    from stillhouse.core.errors import RecipeError, StoreError

    try:
        settings = json.loads((place / "config.json").read_text(encoding="utf-8"))
        weights = load_file(str(place / "model.safetensors"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the layer in `{place}` cannot be read: {error}", "It has `config.json` and `model.safetensors`."
        ) from error
    name = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise RecipeError(f"`{place}` has the activation `{name}`", f"Known are {', '.join(_ACTIVATIONS)}.")
    linear = torch.nn.Linear(settings["in_features"], settings["out_features"], bias=settings.get("bias", True))
    linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return torch.nn.Sequential(linear, getattr(torch.nn, name)()).to(device).eval()
