from __future__ import annotations

from xml.etree import ElementTree

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.text.analysis import token_analysis, vocabulary_advice
from tests.text.tokenizers import SENTENCES, small_tokenizer


def test_counts_are_those_of_the_tokenizer() -> None:
    tokenizer = small_tokenizer()
    texts = {"orders": SENTENCES, "short": ["a a a", "", "é"]}
    found = token_analysis(tokenizer, texts)
    ids = {name: [tokenizer.encode(text, add_special_tokens=False) for text in some] for name, some in texts.items()}
    every = [token for some in ids.values() for text in some for token in text]
    assert sum(found.counts) == len(every)
    assert found.unused == len(tokenizer) - len(set(every))
    assert found.counts == tuple(sorted((every.count(token) for token in set(every)), reverse=True))
    short = found.sources["short"]
    assert (short.texts, short.bytes, short.words, short.tokens) == (3, 7, 4, sum(map(len, ids["short"])))
    assert short.bytes_per_token == 7 / short.tokens
    assert short.tokens_per_word == short.tokens / 4


def test_coverage_is_the_least_number_of_entries_that_make_the_share() -> None:
    found = token_analysis(small_tokenizer(), ["a" * 1 + "!" * 1 + "b" * 1 + "1111111"])
    assert found.counts[0] == 7
    total = sum(found.counts)
    for share, entries in found.coverage.items():
        assert sum(found.counts[:entries]) >= total * share / 100 > sum(found.counts[: entries - 1])
    assert found.coverage[50] == 1
    assert found.coverage[100] == len(found.counts)


def test_the_longest_tokens_come_first_and_the_table_tells_all() -> None:
    found = token_analysis(small_tokenizer(), SENTENCES, longest=3)
    lengths = [len(text) for text, _ in found.longest]
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == 3
    assert f"of {len(small_tokenizer()):,} entries {found.unused:,} do not occur" in str(found)
    assert found.plain()["sources"]["all"]["tokens"] == sum(found.counts)


def test_the_picture_is_well_formed_and_none_is_needed_for_nothing() -> None:
    assert ElementTree.fromstring(token_analysis(small_tokenizer(), SENTENCES).svg()).tag.endswith("svg")
    empty = token_analysis(small_tokenizer(), [])
    assert (empty.counts, empty.coverage[99]) == ((), 0)
    assert ElementTree.fromstring(empty.svg()).tag.endswith("svg")


def test_a_size_is_advised_while_doubling_it_pays() -> None:
    words = ["latte", "croissant", "bagel", "espresso", "cappuccino", "muffin", "sandwich", "lemonade"]
    texts = [" ".join(words[(number * step) % 8] for step in range(1, 9)) for number in range(60)]
    found = vocabulary_advice(texts, width=16, sizes=(300, 400, 2000, 4000))
    sizes = [size.size for size in found.tried]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] < 2000  # so few pairs are there
    assert [size.embedding_parameters for size in found.tried] == [16 * size for size in sizes]
    lengths = [size.bytes_per_token for size in found.tried]
    assert lengths == sorted(lengths)
    assert found.advised in sizes
    assert "advised" in str(found)
    assert vocabulary_advice(texts, sizes=(300, 400, 2000), gain=10.0).advised == 300


def test_ten_texts_are_needed_for_advice() -> None:
    with pytest.raises(RecipeError, match="too few"):
        vocabulary_advice(["a"] * 9)
