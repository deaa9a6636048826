"""Peeking shows what the store and the batches hold, and every byte of a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from stillhouse.text.tokenizer import load_tokenizer
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.peek import TokenTexts, peek_document, peek_rows
from tests.models.tiny import tiny_tokenizer
from tests.tokens.stores import ids_of, make_store


def test_texts_of_tokens_join_to_the_text_and_half_characters_stand_as_bytes(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    texts = TokenTexts(tokenizer)
    text = "two  flat whites\n\ttea \x1b[31m "
    assert "".join(texts(tokenizer(text, add_special_tokens=False)["input_ids"])) == text
    assert "".join(texts(tokenizer("日", add_special_tokens=False)["input_ids"])) == r"\xe6\x97\xa5"
    end = tokenizer.eos_token_id
    assert texts([end, end]) == [tokenizer.eos_token] * 2
    assert TokenTexts(None)([7]) == ["<7>"]


def test_a_document_is_shown_with_the_weights_of_the_loss(tmp_path: Path) -> None:
    store = make_store(tmp_path, [4, 6], weighting="mask", example_weights=[1.0, 0.5])
    span = peek_document(store, 1, TokenTexts(None), "web")
    assert [token.id for token in span.tokens] == ids_of(1, 6)
    assert [token.weight for token in span.tokens] == [0.0, *store.document(1).weights[1:].tolist()]
    assert (span.source, span.row_id, span.length, span.example_weight) == ("web", store.row_ids([1])[0], 6, 0.5)


def test_packed_rows_are_those_of_the_batch(tmp_path: Path) -> None:
    stores = {name: make_store(tmp_path / name, [3, 5, 9, 4], name=name) for name in ("a", "b")}
    loader = get_loader(Mixture(stores), seq_len=8, batch_size=3, packing=Packing(too_long="split"), seed=1)
    batch = loader.batch(2)
    rows = list(peek_rows(batch, [source.store for source in loader.sources], TokenTexts(None)))
    assert [row.row for row in rows] == [6, 7, 8]
    for number, row in enumerate(rows):
        ids = [token.id for span in row.spans for token in span.tokens]
        assert ids == batch.ids[number].tolist()[: len(ids)]
        assert len(ids) + row.padding == 8
        weights = [token.weight for span in row.spans for token in span.tokens]
        assert np.array_equal(weights, batch.weights[number, : len(ids)])
        for span in row.spans:
            stored = stores[span.source].document(span.document)
            assert span.tokens[0].position == span.offset
            assert [token.id for token in span.tokens] == stored.ids[span.offset :][: len(span.tokens)].tolist()
            assert (span.row_id, span.length) == (stored.row_id, len(stored.ids))
    seen = [(span.source, span.row_id, span.offset) for row in rows for span in row.spans]
    assert seen == [(row.source, row.row_id, row.offset) for row in loader.rows_at_step(2)]
