"""The work behind `train_tokenizer`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ..core.artifact import Rows
from ..core.errors import RecipeError
from ._json_syntax import without_syntax
from .chat import DEFAULT_TEMPLATE, END, PAD, ROLES

MARKERS = tuple(f"<|{role}|>" for role in ROLES)
THINKING = ("<think>", "</think>")


def train(
    texts: Iterable[str],
    vocab_size: int,
    min_frequency: int = 2,
    split_digits: bool = True,
    syntax: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens; smaller where the texts have no more pairs to merge.

    Each piece of `syntax` is a token; merges then learn from what stands between such pieces.
    """
    kept = syntax[: max(0, vocab_size - len(THINKING) - len(MARKERS) - 2 - 256)]  # bytes and special tokens go first
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if split_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    # Untrimmed offsets: a token's characters include its leading space, so spans in characters map exactly.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(THINKING) - len(kept),
        min_frequency=min_frequency,
        special_tokens=[PAD, END, *MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learnt = (part for text in texts for part in without_syntax(text)) if kept else texts
    tokenizer.train_from_iterator(learnt, trainer)
    # One token each, but ordinary text: a reply is decoded with its reasoning.
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (*THINKING, *kept)])
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """The files that `AutoTokenizer.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "additional_special_tokens": list(MARKERS),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
        "chat_template": DEFAULT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(DEFAULT_TEMPLATE, encoding="utf-8")


def texts_of(rows: Rows, columns: Sequence[str]) -> Iterator[str]:
    """The texts in some columns; raises `RecipeError` where a column is missing or holds something else."""
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise RecipeError(
            f"TrainTokenizer: the rows have no column `{missing[0]}`", f"Their columns: {', '.join(rows.columns)}."
        )
    for row in rows:
        for column in columns:
            yield from _texts_of(row[column])


def replies_of(rows: Rows, columns: Sequence[str]) -> Iterator[str]:
    """What the assistant says in the conversations of some columns, reasoning aside."""
    for row in rows:
        for column in columns:
            messages = row[column] if isinstance(row.get(column), list) else []
            for message in messages:
                if isinstance(message, dict) and message.get("role") == "assistant":
                    yield str(message.get("content") or "").rpartition(THINKING[1])[2].strip()


def _texts_of(value: Any) -> Iterator[str]:
    """The texts in a cell: itself, or what its messages say; nothing for null."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for message in value:
            parts = [message.get(key) for key in ("content", "thinking")] if isinstance(message, dict) else []
            yield from (part for part in parts if isinstance(part, str))
    elif value is not None:
        raise RecipeError(
            f"TrainTokenizer: a cell holds {type(value).__name__}, expected text or a list of messages",
            "Choose text columns with `columns`.",
        )
