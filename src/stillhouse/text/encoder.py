"""Ids of plain texts: those that the tokenizer gives, by a faster way where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase


class Mismatch(NamedTuple):
    """A text for which the fast way gives other ids than the tokenizer."""

    text: str
    expected: list[int]
    found: list[int]

    def __str__(self) -> str:
        at = next((n for n, (a, b) in enumerate(zip(self.expected, self.found, strict=False)) if a != b), 0)
        return (
            f"{self.text[:60]!r}: token {at} of the tokenizer is {self.expected[at : at + 4]}, "
            f"the fast way gives {self.found[at : at + 4]}"
        )


class TextEncoder:
    """Texts to ids as `backend_tokenizer.encode(text, add_special_tokens=False)` gives them, added tokens included.

    With `control_as_text` control tokens (added tokens marked as special) are characters as others are. A tokenizer
    that has one in its vocabulary may give it all the same; `has_control` tells. The tokenizer itself must not encode
    in another thread meanwhile.

    For a byte-level BPE the work is done by tiktoken on the same merges and split pattern. That is believed once it
    gave the tokenizer's own ids for every text of `nasty_texts`; where it did not, or the tokenizer is of another kind,
    the tokenizer does the work itself and `slow_because` says why.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        fast: bool = True,
        checked: bool = False,
        control_as_text: bool = False,
    ) -> None:
        """`fast=False` takes the tokenizer itself; `checked` tells that its fast way was checked in another process."""
        from ._encoder import FastWay, Unsuited, control_table

        self._backend = tokenizer.backend_tokenizer
        self._as_text = control_as_text
        self._control = control_table(self._backend, tokenizer.unk_token_id)
        self._fast: FastWay | None = None
        self.slow_because = "" if fast else "not asked for"
        self.mismatch: Mismatch | None = None
        if not fast:
            return
        try:
            self._fast = FastWay(self._backend, control_as_text)
        except Unsuited as error:
            self.slow_because = str(error)
        else:
            if not checked:
                self._check_on_nasty_texts()

    @property
    def is_fast(self) -> bool:
        return self._fast is not None

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text."""
        from ._encoder import encoded

        return encoded(self._backend, self._fast, texts, self._as_text)

    def has_control(self, ids: npt.NDArray[np.uint32]) -> bool:
        """Whether a control token is among the ids; the one for what is unknown stands in any text and is none here."""
        return bool(self._control[ids].any())

    def check(self, texts: Sequence[str]) -> Mismatch | None:
        """The first text for which the fast way gives other ids than the tokenizer, if any."""
        from ._encoder import encoded

        if self._fast is None:
            return None
        own = encoded(self._backend, None, texts, self._as_text)
        pairs = zip(own, encoded(self._backend, self._fast, texts, self._as_text), strict=True)
        for text, (expected, found) in zip(texts, pairs, strict=True):
            if expected.tolist() != found.tolist():
                return Mismatch(text, expected.tolist(), found.tolist())
        return None

    def _check_on_nasty_texts(self) -> None:
        from .nasty import nasty_texts

        added = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        self.mismatch = self.check(nasty_texts(added))
        if self.mismatch is not None:
            self._fast = None
            self.slow_because = str(self.mismatch)
