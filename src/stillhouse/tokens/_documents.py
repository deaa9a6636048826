"""Rows to documents: ids, loss weights and role spans, or the reason why a row cannot be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ..core.errors import RowFault
from ..core.outcome import Row
from ..text.chat import ChatRenderer
from ..text.encoder import TextEncoder
from ..text.tokenizer import load_tokenizer, starts_with_bos

_LARGEST_WEIGHT = float(np.finfo(np.float32).max)
"""Weights are kept as float32: a larger one would be infinite."""


@dataclass(frozen=True)
class Writing:
    """How rows become documents. It can be told to another process: plain values and the tokenizer's folder."""

    tokenizer: Path
    text: tuple[str, ...] | None = None
    template: str | None = None
    max_length: int | None = None
    weight: str | None = None
    source: str = ""
    fast: bool = True
    """Whether texts may take the fast way of `TextEncoder`, which was checked for this tokenizer."""
    control_tokens: bool = False
    """Whether control tokens that stand in a text are read as such."""


@dataclass(frozen=True)
class Encoded:
    """A row as a document: ids, loss weights (None: all count), role spans."""

    ids: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.uint8] | None = None
    roles: Sequence[tuple[str, int, int]] = ()


@dataclass(frozen=True)
class Reject:
    row_id: str
    kind: str
    message: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Documents:
    """What some rows became: documents one behind the other, and the rows that could not be used."""

    row_ids: list[str]
    ids: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    weights: npt.NDArray[np.uint8] | None
    """Aligned with `ids`; None in text mode."""
    example_weights: npt.NDArray[np.float64] | None
    roles: list[list[tuple[str, int, int]]] | None
    rejects: list[Reject] = field(default_factory=list)

    def kinds(self) -> Counter[str]:
        return Counter(reject.kind for reject in self.rejects)

    def packed(self) -> bytes:
        """For a pipe: a line of JSON, then the arrays."""
        arrays: list[npt.NDArray[Any] | None] = [self.ids, self.lengths, self.weights, self.example_weights]
        head = {
            "row_ids": self.row_ids,
            "roles": self.roles,
            "rejects": [[reject.row_id, reject.kind, reject.message, reject.row] for reject in self.rejects],
            "arrays": [None if array is None else [array.dtype.str, array.nbytes] for array in arrays],
        }
        parts = [json.dumps(head, default=str).encode(), b"\n"]
        return b"".join([*parts, *(array.tobytes() for array in arrays if array is not None)])

    @classmethod
    def unpacked(cls, data: bytes) -> Documents:
        start = data.index(b"\n") + 1
        head = json.loads(data[:start])
        arrays: list[Any] = []
        for entry in head["arrays"]:
            if entry is not None:
                arrays.append(np.frombuffer(data, entry[0], entry[1] // np.dtype(entry[0]).itemsize, start))
                start += entry[1]
            else:
                arrays.append(None)
        ids, lengths, weights, examples = arrays
        return cls(
            head["row_ids"],
            ids,
            lengths,
            weights,
            examples,
            head["roles"],
            [Reject(*reject) for reject in head["rejects"]],
        )


Encoder = Callable[[Sequence[Row]], Sequence[Encoded | RowFault]]


class Documenter:
    """Rows to documents, as `writing` says. Raises `RecipeError` where the tokenizer or the template is at fault."""

    def __init__(
        self, writing: Writing, tokenizer: PreTrainedTokenizerBase | None = None, checked: bool = False
    ) -> None:
        tokenizer = tokenizer or load_tokenizer(writing.tokenizer)
        self._writing = writing
        self.texts: TextEncoder | None = None
        if writing.text is None:
            self._encode = chat_encoder(tokenizer, writing.template)
        else:
            self.texts = TextEncoder(
                tokenizer, fast=writing.fast, checked=checked, control_as_text=not writing.control_tokens
            )
            self._encode = text_encoder(tokenizer, writing.text, self.texts, control_tokens=writing.control_tokens)

    def __call__(self, rows: Sequence[Row]) -> Documents:
        kept: list[tuple[str, Encoded, float]] = []
        rejects: list[Reject] = []
        for row, encoded in zip(rows, self._encode(rows), strict=True):
            try:
                kept.append((row["_id"], self._usable(encoded), _weight_of(row, self._writing.weight)))
            except RowFault as fault:
                content = {name: value for name, value in row.items() if name[:1] != "_"}
                rejects.append(Reject(row["_id"], fault.kind, fault.message, content))
        found = [encoded for _, encoded, _ in kept]
        chat = self._writing.text is None
        return Documents(
            [row_id for row_id, _, _ in kept],
            np.concatenate([np.empty(0, np.uint32), *(encoded.ids for encoded in found)]),
            np.array([len(encoded.ids) for encoded in found], np.int64),
            np.concatenate([np.empty(0, np.uint8), *(e.weights for e in found if e.weights is not None)])
            if chat
            else None,
            np.array([weight for _, _, weight in kept]) if self._writing.weight is not None else None,
            [list(encoded.roles) for encoded in found] if chat else None,
            rejects,
        )

    def _usable(self, encoded: Encoded | RowFault) -> Encoded:
        if isinstance(encoded, RowFault):
            raise encoded
        longest = self._writing.max_length
        if longest is not None and len(encoded.ids) > longest:
            raise RowFault("too_long", f"{len(encoded.ids)} tokens, at most {longest} are allowed")
        return encoded


def chat_encoder(tokenizer: PreTrainedTokenizerBase, template: str | None) -> Encoder:
    """Conversations, with assistant-only weights."""
    renderer = ChatRenderer(tokenizer, template)

    def encode(rows: Sequence[Row]) -> list[Encoded | RowFault]:
        conversations = [row["messages"] if isinstance(row["messages"], list) else [] for row in rows]
        return [
            rendered
            if isinstance(rendered, RowFault)
            else Encoded(
                np.array(rendered.ids, np.uint32),
                np.array(rendered.weights, np.uint8),
                [(span.role, span.start, span.stop) for span in rendered.roles],
            )
            for rendered in renderer.render_many(conversations)
        ]

    return encode


def text_encoder(
    tokenizer: PreTrainedTokenizerBase,
    columns: Sequence[str],
    texts: TextEncoder | None = None,
    *,
    control_tokens: bool = False,
) -> Encoder:
    """Texts, each with the end token after it, and the begin token before it where the tokenizer itself puts one.

    A text that the tokenizer can only read with a control token in it is a fault, but where `control_tokens` are meant.
    """
    before = np.array([tokenizer.bos_token_id] if starts_with_bos(tokenizer) else [], np.uint32)
    end = np.array([tokenizer.eos_token_id], np.uint32)
    encoder = texts or TextEncoder(tokenizer, fast=False, control_as_text=not control_tokens)

    def document(ids: npt.NDArray[np.uint32]) -> Encoded | RowFault:
        if not control_tokens and encoder.has_control(ids):
            token = next(number for number in ids if encoder.has_control(np.array([number])))
            written = tokenizer.convert_ids_to_tokens(int(token))
            return RowFault("invalid", f"the control token `{written}` stands in the text, and cannot be read as text")
        return Encoded(np.concatenate([before, ids, end]))

    def encode(rows: Sequence[Row]) -> list[Encoded | RowFault]:
        found = [text_of(row, columns) for row in rows]
        ids = iter(encoder.encode([text for text in found if isinstance(text, str)]))
        return [text if isinstance(text, RowFault) else document(next(ids)) for text in found]

    return encode


def text_of(row: Row, columns: Sequence[str]) -> str | RowFault:
    """The text of a row: its columns, joined by an empty line."""
    parts = [row[column] for column in columns if row[column] is not None]
    for column in columns:
        if row[column] is not None and not isinstance(row[column], str):
            return RowFault("invalid", f"`{column}` holds {type(row[column]).__name__}, expected text")
    text = "\n\n".join(parts)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return RowFault("invalid", f"half a character (a lone surrogate) at position {error.start}")
    return text if text.strip() else RowFault("empty", f"no text in {', '.join(f'`{column}`' for column in columns)}")


def _weight_of(row: Row, column: str | None) -> float:
    if column is None:
        return 1.0
    value = row.get(column)
    if not isinstance(value, (int, float)) or not 0.0 <= value <= _LARGEST_WEIGHT:
        raise RowFault("invalid", f"`{column}` is {value!r}, expected a weight from 0 to {_LARGEST_WEIGHT:.1e}")
    return float(value)
