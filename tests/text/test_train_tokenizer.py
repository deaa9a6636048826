from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text.tokenizer import load_tokenizer, tokenizer_digest
from stillhouse.text.train_tokenizer import TrainTokenizer
from tests.text.tokenizers import SENTENCES, small_tokenizer

ROWS = Import(data=[{"messages": [{"role": "user", "content": text}]} for text in SENTENCES * 2], require=())


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_comes_back_byte_for_byte(text: str) -> None:
    backend = small_tokenizer().backend_tokenizer
    assert backend.decode(backend.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_the_folder_loads_with_special_tokens_and_template(session: Session) -> None:
    folder = session.run(TrainTokenizer(rows=ROWS, vocab_size=400)).path
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|end|>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.bos_token is None
    assert {"<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"} <= set(tokenizer.all_special_tokens)
    assert "generation" in tokenizer.get_chat_template()
    assert 300 < len(tokenizer) <= 400


def test_text_columns_and_conversations_can_be_learnt_from_together(session: Session) -> None:
    both = Import(
        data=[{"text": "zzyzx zzyzx", "messages": [{"role": "user", "content": "quux quux"}]}] * 5, require=()
    )
    tokenizer = load_tokenizer(session.run(TrainTokenizer(rows=both, columns=("text", "messages"))).path)
    assert len(tokenizer.tokenize("zzyzx")) == 1
    assert len(tokenizer.tokenize("quux")) == 1


def test_digits_are_tokens_of_their_own_unless_asked_otherwise(session: Session) -> None:
    numbers = Import(data=[{"text": "2024 2024 2024"}] * 5, require=())
    split = load_tokenizer(session.run(TrainTokenizer(rows=numbers, columns=("text",))).path)
    joined = load_tokenizer(session.run(TrainTokenizer(rows=numbers, columns=("text",), split_digits=False)).path)
    assert len(split.tokenize("2024")) == 4
    assert len(joined.tokenize("2024")) == 1


def test_the_same_text_gives_the_same_tokenizer_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys, json, pathlib\n"
        "from stillhouse.text._train_tokenizer import train, write\n"
        "write(train(json.loads(sys.argv[1]), 380), pathlib.Path(sys.argv[2]))\n"
    )
    texts = json.dumps([*SENTENCES * 3, "aa bb ab ba abab baba", "cc dd cd dc"])
    for seed in ("0", "1"):
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        subprocess.run([sys.executable, "-c", program, texts, str(tmp_path / seed)], check=True, env=environment)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_a_missing_column_is_named_beside_those_that_exist(session: Session) -> None:
    with pytest.raises(RecipeError, match=r"(?s)no column `text`.*messages"):
        session.run(TrainTokenizer(rows=ROWS, columns=("text",)))


def test_a_cell_that_is_no_text_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="int"):
        session.run(TrainTokenizer(rows=Import(data=[{"text": 3}], require=()), columns=("text",)))


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(RecipeError, match="vocab_size"):
        TrainTokenizer(rows=ROWS, vocab_size=200)


def test_the_digest_counts_rules_and_special_tokens_but_not_the_template(tmp_path: Path) -> None:
    small_tokenizer().save_pretrained(tmp_path)
    same, other = load_tokenizer(tmp_path), load_tokenizer(tmp_path)
    same.chat_template = "{{ messages }}"
    other.pad_token = other.eos_token
    assert tokenizer_digest(same) == tokenizer_digest(small_tokenizer())
    assert tokenizer_digest(other) != tokenizer_digest(small_tokenizer())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no tokenizer"):
        load_tokenizer(tmp_path)
