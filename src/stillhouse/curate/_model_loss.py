"""The loss of a token of texts under a local model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from ..models.device import resolve_device, set_threads
from ..models.forward import Forward, PackedTokens
from ..models.loading import base_of, load_model
from ..text.tokenizer import load_tokenizer, starts_with_bos


class ModelLoss:
    """A model folder ready to judge texts; `logits` bounds the numbers that one forward pass holds."""

    def __init__(self, folder: Path, device: str, threads: int | None, max_tokens: int, logits: int) -> None:
        self._device = resolve_device(device)
        set_threads(threads)
        has_own = (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file()
        self._tokenizer = load_tokenizer(folder if has_own else base_of(folder))
        dtype = torch.float32 if self._device.type == "cpu" else None
        model = load_model(folder, device=self._device, dtype=dtype)
        config = model.config.get_text_config()  # type: ignore[operator, union-attr]
        longest = int(getattr(config, "max_position_embeddings", 0) or max_tokens)
        self._longest = min(max_tokens, longest)
        self._room = max(self._longest, logits // int(config.vocab_size))
        self._forward = Forward(model)
        self._first = [self._tokenizer.bos_token_id] if starts_with_bos(self._tokenizer) else []

    def losses(self, texts: Sequence[str], check: Callable[[], None]) -> list[float | None]:
        """Mean cross-entropy of the tokens after the first, in nats; None for a text of fewer than two tokens."""
        backend = self._tokenizer.backend_tokenizer
        encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        tokens = [[*self._first, *one.ids][: self._longest] for one in encoded]
        found: list[float | None] = [None] * len(texts)
        for group in self._groups(tokens):
            for place, loss in zip(group, self._judged([tokens[place] for place in group]), strict=True):
                found[place] = loss
            check()
        return found

    def _groups(self, tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Texts of two tokens and more in groups that fit into one pass, those of similar length together."""
        group: list[int] = []
        used = 0
        for place in sorted(range(len(tokens)), key=lambda place: (len(tokens[place]), place)):
            if len(tokens[place]) < 2:
                continue
            if group and used + len(tokens[place]) > self._room:
                yield group
                group, used = [], 0
            group.append(place)
            used += len(tokens[place])
        if group:
            yield group

    @torch.inference_mode()
    def _judged(self, tokens: Sequence[Sequence[int]]) -> list[float]:
        lengths = [len(one) for one in tokens]
        ids = torch.tensor([number for one in tokens for number in one], device=self._device)
        ends = torch.tensor(lengths, device=self._device).cumsum(0)
        keep = torch.ones(len(ids), dtype=torch.bool, device=self._device)
        keep[ends - 1] = False  # what comes after the last token is not known
        places = keep.nonzero().flatten()
        logits = self._forward.logits(PackedTokens.of(ids, lengths), places).float()
        losses = cross_entropy(logits, ids[places + 1], reduction="none").double().cpu()
        return [float(part.mean()) for part in losses.split([length - 1 for length in lengths])]
