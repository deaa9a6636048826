"""Replies that are held to a JSON Schema while they are written, by llguidance: which tokens may come next.

`V` is the vocabulary of the model, which may be larger than the tokenizer's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError

_LAYOUT = {
    # As `json.dumps` writes it: where spaces are free a small model may write nothing else to the end.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # What a grammar cannot say is let pass here, and found when the reply is checked.
    "coerce_one_of": True,
    "lenient": True,
}
_KEPT = 64
"""Grammars of so many schemas are kept; a step asks with one, thousands of times."""


class Guides:
    """Makes the guides of one tokenizer; reading a large vocabulary takes a second, so it is done once."""

    def __init__(self, tokenizer: Any, ends: Collection[int], num_tokens: int) -> None:
        try:
            from llguidance.hf import from_tokenizer
        except ImportError:
            hint = (
                "Run `pip install 'stillhouse[guided]'`, or leave `structured` out: then the schema is told in words."
            )
            raise ModelError("holding replies to a schema needs the library `llguidance`", hint) from None
        self.num_tokens = num_tokens
        self._tokenizer = from_tokenizer(tokenizer, n_vocab=num_tokens, eos_token=sorted(ends), slices=[])
        self._matchers: dict[str, Any] = {}

    def of(self, schema: Mapping[str, Any]) -> Guide:
        """A fresh guide; raises `ModelError` for what no grammar can say."""
        name = json.dumps(schema)
        if name not in self._matchers:
            if len(self._matchers) >= _KEPT:
                self._matchers.clear()
            self._matchers[name] = self._matcher(schema)
        return Guide(self._matchers[name].deep_copy(), self.num_tokens)

    def _matcher(self, schema: Mapping[str, Any]) -> Any:
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(dict(schema), overrides=_LAYOUT)  # type: ignore[arg-type]
        matcher = LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise ModelError(
                f"no reply can be held to this schema: {' '.join(matcher.get_error().split())[:200]}",
                "Leave `structured` out: then the schema is told in words.",
                kind="rejected",
            )
        return matcher


class Guide:
    """What may come next in one reply."""

    def __init__(self, matcher: Any, num_tokens: int) -> None:
        self._matcher = matcher
        self._num_tokens = num_tokens

    def allowed(self) -> NDArray[np.bool_]:
        """[V] for each token whether it may come next; the ends alone where the reply is whole."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, count=self._num_tokens, bitorder="little").astype(np.bool_)

    def take(self, token: int) -> None:
        """The token that was chosen among those."""
        self._matcher.consume_token(token)
