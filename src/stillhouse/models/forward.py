"""The one way in which a model sees documents that follow one another: logits where asked, no leak between them.

Axes: `N` tokens of all documents, `M` chosen positions, `V` vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .documents import DOCUMENT_ATTENTION, Documents, UnknownAttention, documents_of, no_mask, on_device

Layout = Literal["joined", "apart"]
"""`joined`: all documents in one row, attention by documents. `apart`: each document in a padded row of its own."""


@dataclass(frozen=True)
class PackedTokens:
    """Documents that follow one another without padding."""

    ids: Tensor
    """[N] token ids."""
    position_ids: Tensor
    """[N] positions, from 0 in each document."""
    lengths: tuple[int, ...]
    documents: Documents

    @classmethod
    def of(cls, ids: Tensor, lengths: Sequence[int]) -> PackedTokens:
        """`ids` [N] cut into documents of these lengths, on the device of `ids`."""
        positions = on_device(torch.cat([torch.arange(length) for length in lengths]), ids.device)
        return cls(ids, positions, tuple(lengths), documents_of(lengths, ids.device))


class Forward:
    """Runs a causal language model on packed documents.

    Where the model's attention can be computed document by document (found out by a trial on a few tokens), all
    documents run as one row. Every other architecture (recurrent, chunked, soft-capped) gets each document in a row of
    its own: more padding, the same numbers.
    """

    def __init__(self, model: nn.Module, layout: Layout | None = None) -> None:
        self.model = model
        self._inner = _unwrapped(model)
        self._picks = "logits_to_keep" in inspect.signature(self._inner.forward).parameters
        self.layout: Layout = "apart"
        if layout != "apart" and _may_join(self._inner) and _joins(self):
            self.layout = "joined"

    def logits(self, tokens: PackedTokens, keep: Tensor) -> Tensor:
        """[M, V] logits at the positions `keep` [M] of the joined documents."""
        if self.layout == "joined":
            return self._joined(tokens, keep)
        return self._apart(tokens, keep)

    def _joined(self, tokens: PackedTokens, keep: Tensor) -> Tensor:
        options: dict[str, Any] = {"logits_to_keep": keep} if self._picks else {}
        found: Tensor = self.model(
            input_ids=tokens.ids[None],
            position_ids=tokens.position_ids[None],
            attention_mask=no_mask(tokens.ids.device),
            documents=tokens.documents,
            use_cache=False,
            **options,
        ).logits[0]
        return found if self._picks else found.index_select(0, keep)

    def _apart(self, tokens: PackedTokens, keep: Tensor) -> Tensor:
        """One call for each group of similar lengths; only the chosen positions leave it."""
        slots = tokens.documents.places[keep]
        edges = [0]
        for group in tokens.documents.groups:
            edges.append(edges[-1] + group.tokens.numel())
        parts, origins = [], []
        for group, (begin, end) in zip(tokens.documents.groups, pairwise(edges), strict=True):
            chosen = ((slots >= begin) & (slots < end)).nonzero().flatten()
            if not len(chosen):
                continue
            shape = (group.count, group.longest)
            # A repeated last token stands where a document has ended; its position did not move on.
            ends = torch.diff(group.tokens.view(shape), dim=1) == 0
            mask = torch.cat([torch.ones_like(ends[:, :1]), ~ends], dim=1)
            found = self.model(
                input_ids=tokens.ids[group.tokens].view(shape), attention_mask=mask.long(), use_cache=False
            ).logits
            parts.append(found.flatten(0, 1).index_select(0, slots[chosen] - begin))
            origins.append(chosen)
        return torch.cat(parts).index_select(0, torch.cat(origins).argsort())


def _unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a PEFT wrapper."""
    wrapper: Any = model
    return wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper


def _may_join(model: Any) -> bool:
    """Whether the architecture says nothing that speaks against attention by documents."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds <= {"full_attention", "sliding_attention"} and not getattr(config, "attention_chunk_size", None)


def _joins(forward: Forward) -> bool:
    """A trial: documents in one row must give what they give apart. Leaves the fitting implementation set."""
    model = forward._inner
    before = model.config._attn_implementation
    embeddings = model.get_input_embeddings().weight
    vocabulary, device = embeddings.shape[0], embeddings.device
    ids = torch.arange(1, 24, device=device) * 7919 % vocabulary
    tokens = PackedTokens.of(ids, (9, 2, 12))
    keep = torch.arange(len(ids), device=device)
    training = forward.model.training
    forward.model.eval()
    try:
        with torch.no_grad():
            apart = forward._apart(tokens, keep).float()
            model.set_attn_implementation(DOCUMENT_ATTENTION)
            joined = forward._joined(tokens, keep).float()
        tolerance = 1e-3 if embeddings.dtype == torch.float32 else 5e-2
        if bool((joined - apart).abs().max() <= tolerance * apart.abs().max().clamp(min=1e-3)):
            return True
    except (UnknownAttention, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        pass  # the architecture does not take part; whatever it raised, documents apart are right
    finally:
        forward.model.train(training)
    model.set_attn_implementation(before)
    return False
