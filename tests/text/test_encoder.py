"""The fast way to ids gives the tokenizer's own, or is not taken."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from stillhouse.text import _encoder
from stillhouse.text.encoder import TextEncoder
from stillhouse.text.nasty import PLAIN, nasty_texts
from stillhouse.text.tokenizer import load_tokenizer
from tests.text.tokenizers import SENTENCES, small_tokenizer

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = CL100K.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


CUTS: dict[str, Any] = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "digits": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "cl100k": split(CL100K),
    "qwen2": split(QWEN2),
    "o200k": split(O200K),
    "words only": split(r"\p{L}+"),
}


@cache
def trained(cut: str, *, normaliser: str = "", whole: bool = False) -> PreTrainedTokenizerBase:
    """600 tokens, added tokens of both kinds among them."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    tokenizer.pre_tokenizer = CUTS[cut]
    tokenizer.decoder = decoders.ByteLevel()
    if normaliser:
        tokenizer.normalizer = getattr(normalizers, normaliser)()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, *PLAIN] * 2, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("  ", normalized=True), "    ", "word"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.mark.parametrize("cut", CUTS)
def test_ids_are_the_tokenizers_own_on_every_nasty_text(cut: str) -> None:
    tokenizer = trained(cut)
    encoder = TextEncoder(tokenizer)
    assert encoder.is_fast, encoder.slow_because
    texts = nasty_texts(["<|end|>", "<think>", "  ", "word"], seed=1)
    expected = [found.ids for found in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in encoder.encode(texts)] == expected
    assert {len(ids) for ids in expected} > {0, 1}


@pytest.mark.parametrize("form", ["NFC", "NFKC", "NFD"])
def test_a_unicode_form_is_applied_by_the_tokenizers_own_normaliser(form: str) -> None:
    assert TextEncoder(trained("qwen2", normaliser=form)).is_fast


def test_words_that_are_tokens_need_no_merges_where_the_tokenizer_says_so() -> None:
    assert TextEncoder(trained("cl100k", whole=True)).is_fast


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec="utf-8"), max_size=30),
            st.text(" \n\t'’a1é<|end>", max_size=30),
            st.sampled_from(["<|end|>", "<think>", "word", "  ", "\r\n"]),
        ),
        max_size=6,
    ).map("".join)
)
def test_ids_are_the_tokenizers_own_on_any_text(text: str) -> None:
    for cut in CUTS:
        encoder = encoder_of(cut)
        assert encoder.is_fast
        assert encoder.check([text]) is None
        assert encoder_of(cut, control_as_text=True).check([text]) is None


@cache
def encoder_of(cut: str, *, control_as_text: bool = False) -> TextEncoder:
    return TextEncoder(trained(cut), checked=True, control_as_text=control_as_text)


@pytest.mark.parametrize("fast", [True, False])
def test_control_tokens_can_be_read_as_the_text_they_are(fast: bool) -> None:
    tokenizer = copy.deepcopy(trained("cl100k"))
    tokenizer.backend_tokenizer.add_special_tokens(["<|word|>"])  # a shorter added token stands in it
    tokenizer.backend_tokenizer.add_tokens([AddedToken("<think>x", normalized=False)])
    backend = tokenizer.backend_tokenizer
    encoder = TextEncoder(tokenizer, fast=fast, control_as_text=True)
    assert encoder.is_fast == fast, encoder.slow_because
    for text in ("a<|end|><|im_start|>b", "<|end|>", "<think><|word|> word <|word|", "<|end|><think>x"):
        [ids], [read] = encoder.encode([text]), TextEncoder(tokenizer, fast=fast).encode([text])
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert (encoder.has_control(ids), encoder.has_control(read)) == (False, True)
        backend.encode_special_tokens = True
        assert ids.tolist() == backend.encode(text, add_special_tokens=False).ids
        backend.encode_special_tokens = False
    assert [token for token in ("<think>", "word") if token in backend.encode("<think> word").tokens]


def test_tokens_of_ones_own_tokenizer_are_found_in_text_as_it_finds_them() -> None:
    encoder = TextEncoder(small_tokenizer())
    assert encoder.is_fast
    [ids] = encoder.encode(["a<|end|><think>b"])
    assert small_tokenizer().convert_tokens_to_ids(["<|end|>", "<think>"]) == ids.tolist()[1:3]


def test_whitespace_that_goes_on_and_on_gives_the_same_ids() -> None:
    for cut in CUTS:
        assert encoder_of(cut).check(["a" + " " * 10_000 + "b", "\n" * 10_000]) is None


def test_digits_younger_than_the_tokenizers_unicode_are_left_to_it() -> None:
    encoder = encoder_of("digits")
    assert encoder._fast is not None
    for digit in _encoder._disputed_digits():
        assert encoder._fast.encode(f"a{digit}b") is None
        assert encoder.check([f"a{digit} {digit}{digit}b1"]) is None


def test_a_token_with_spaces_of_its_own_leaves_its_texts_to_the_tokenizer() -> None:
    tokenizer = copy.deepcopy(trained("gpt2"))
    tokenizer.backend_tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    encoder = TextEncoder(tokenizer)
    assert encoder.is_fast
    assert encoder._fast is not None
    assert encoder._fast.encode("a  <mask> b") is None
    assert encoder.check(["a  <mask> b", "a b"]) is None


def test_a_token_that_its_merges_never_reach_does_not_arise() -> None:
    tokenizer = copy.deepcopy(trained("gpt2"))
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    letters = {**rules["model"]["vocab"]}
    number = max(letters.values()) + 1
    for first, second in (("q", "zx"), ("z", "x"), ("q", "z")):  # `qz` is joined first, so `q` + `zx` never stand there
        letters[first + second] = number
        number += 1
    rules["model"] |= {"vocab": letters, "merges": [["q", "z"], ["z", "x"], *rules["model"]["merges"], ["q", "zx"]]}
    rules["added_tokens"] = []
    odd = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)))
    encoder = TextEncoder(odd)
    assert encoder.is_fast
    assert encoder.encode(["qzx"])[0].tolist() == odd.backend_tokenizer.encode("qzx").ids
    assert len(encoder.encode(["qzx"])[0]) == 2


def test_other_kinds_of_tokenizers_do_the_work_themselves() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fallback = Tokenizer(models.BPE({"a": 0, "▁": 1}, [], byte_fallback=True))
    fallback.pre_tokenizer = pre_tokenizers.Metaspace()
    strange = copy.deepcopy(trained("gpt2"))
    strange.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    lower = copy.deepcopy(trained("gpt2"))
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    for tokenizer, why in (
        (PreTrainedTokenizerFast(tokenizer_object=words), "no byte-level BPE"),
        (PreTrainedTokenizerFast(tokenizer_object=fallback), "no byte-level BPE"),
        (strange, "Punctuation"),
        (lower, "Lowercase"),
    ):
        encoder = TextEncoder(tokenizer)
        assert not encoder.is_fast
        assert why in encoder.slow_because
        expected = tokenizer.backend_tokenizer.encode("a A.", add_special_tokens=False).ids
        assert encoder.encode(["a A."])[0].tolist() == expected


def test_where_one_id_differs_the_tokenizer_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encoder, "_GPT2_DIGITS", _encoder._GPT2_DIGITS.replace(r" ?\p{L}", r"\p{L}"))
    encoder = TextEncoder(small_tokenizer())
    assert not encoder.is_fast
    assert encoder.mismatch is not None
    assert " " in encoder.mismatch.text
    assert encoder.mismatch.expected != encoder.mismatch.found
    assert "the fast way gives" in encoder.slow_because
    text = "the oat latte"
    assert encoder.encode([text])[0].tolist() == small_tokenizer().backend_tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"a|b|c(?!d)|e", r"(?:a|b)|c(?!d)|e"),
        (r"a|(?!b)c", r"a|(?!b)c"),
        (r"[|](x|y)|\||z++", r"(?:[|](x|y)|\|)|z++"),
        (r"(?=a)|b", r"(?=a)|b"),
    ],
)
def test_alternatives_that_look_around_stay_outside_the_group(pattern: str, expected: str) -> None:
    assert _encoder.grouped(pattern) == expected


def test_a_tokenizer_that_comes_with_a_length_neither_cuts_nor_fills(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(trained("gpt2"))
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(tmp_path)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    text = "The quick brown fox"
    expected = trained("gpt2").backend_tokenizer.encode(text).ids
    assert len(expected) not in (3, 50)
    assert loaded.backend_tokenizer.encode(text, add_special_tokens=False).ids == expected
