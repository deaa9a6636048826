"""Documents and packed rows as a reader sees them: each token with its text, its weight and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from .batch import Batch
from .store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PeekedToken(NamedTuple):
    """One token; `weight` is its weight as a target in the loss."""

    position: int
    """In its document."""
    id: int
    text: str
    """As it reads; bytes that are no whole character alone stand as `\\xe2`."""
    weight: float


class PeekedSpan(NamedTuple):
    """A document, or the piece of one that stands in a row."""

    source: str
    row_id: str
    document: int
    offset: int
    """Position of the first token in the document: above 0 in the continuation of a split one."""
    length: int
    """Tokens of the whole document."""
    example_weight: float
    roles: tuple[tuple[str, int, int], ...]
    """(role, first, one past the last) in positions of the document."""
    tokens: tuple[PeekedToken, ...]


class PeekedRow(NamedTuple):
    """A packed row as the loader gives it."""

    step: int
    row: int
    """From the run's first row."""
    spans: tuple[PeekedSpan, ...]
    padding: int
    """Positions that hold no token."""


class TokenTexts:
    """The text of single tokens; without a tokenizer, their ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}
        self._bytes: dict[str, int] | None = None
        if tokenizer is not None and '"ByteLevel"' in json.dumps(_decoder_of(tokenizer)):
            self._bytes = _byte_alphabet()

    def __call__(self, ids: Sequence[int]) -> list[str]:
        missing = [number for number in dict.fromkeys(ids) if number not in self._known]
        if missing:
            self._known.update(zip(missing, self._texts(missing), strict=True))
        return [self._known[number] for number in ids]

    def _texts(self, ids: list[int]) -> list[str]:
        if self._tokenizer is None:
            return [f"<{number}>" for number in ids]
        added = self._tokenizer.added_tokens_decoder
        pieces: Any = self._tokenizer.convert_ids_to_tokens(ids)
        return [
            f"<{number}>" if piece is None else str(added[number]) if number in added else self._plain(piece)
            for number, piece in zip(ids, pieces, strict=True)
        ]

    def _plain(self, piece: str) -> str:
        if self._bytes is not None and all(letter in self._bytes for letter in piece):
            raw = bytes(self._bytes[letter] for letter in piece)
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            raw = bytes([int(piece[3:5], 16)])
        else:
            return piece.replace("\u2581", " ")
        return raw.decode("utf-8", errors="backslashreplace")


def peek_document(store: TokenStore, number: int, texts: TokenTexts, name: str = "") -> PeekedSpan:
    """A document of a store. Weights are those of the loss: the first token has none, since nothing foretells it."""
    document = store.document(number)
    weights = document.weights.tolist()
    weights[0] = 0.0
    return PeekedSpan(
        source=document.source or name,
        row_id=document.row_id,
        document=number,
        offset=0,
        length=len(document.ids),
        example_weight=document.weight,
        roles=document.roles,
        tokens=tuple(_tokens(document.ids.tolist(), weights, 0, texts)),
    )


def peek_rows(batch: Batch, stores: Sequence[TokenStore], texts: TokenTexts) -> Iterator[PeekedRow]:
    """The rows of a batch; `stores` in the order of its sources."""
    width = batch.ids.shape[1]
    ids, weights = batch.ids.reshape(-1).tolist(), batch.weights.reshape(-1).tolist()
    bounds = batch.cu_seqlens.tolist()
    for row in range(batch.num_rows):
        spans: list[PeekedSpan] = []
        padding = 0
        for number, (start, stop) in enumerate(pairwise(bounds)):
            if not row * width <= start < (row + 1) * width:
                continue
            source = int(batch.source_ids[number])
            if source < 0:
                padding += stop - start
                continue
            document, offset = int(batch.documents[number]), int(batch.offsets[number])
            whole = stores[source].document(document)
            spans.append(
                PeekedSpan(
                    source=batch.source_names[source],
                    row_id=str(batch.row_ids[number]),
                    document=document,
                    offset=offset,
                    length=len(whole.ids),
                    example_weight=whole.weight,
                    roles=whole.roles,
                    tokens=tuple(_tokens(ids[start:stop], weights[start:stop], offset, texts)),
                )
            )
        yield PeekedRow(batch.step, batch.first_row + row, tuple(spans), padding)


def _tokens(ids: list[int], weights: list[float], first: int, texts: TokenTexts) -> Iterator[PeekedToken]:
    for place, (number, text, weight) in enumerate(zip(ids, texts(ids), weights, strict=True)):
        yield PeekedToken(first + place, number, text, weight)


def _decoder_of(tokenizer: PreTrainedTokenizerBase) -> object:
    return json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder")


def _byte_alphabet() -> dict[str, int]:
    """The letters by which byte-level tokenizers write bytes: printable ones themselves, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
