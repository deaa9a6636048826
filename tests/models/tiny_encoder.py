"""Encoders and classifiers of a few thousand numbers, with a tokenizer of whole words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from tests.models.tiny import WORDS, randomised

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def word_tokenizer(folder: Path, longest: int = 64) -> None:
    """Each of `WORDS` is a token; a text stands between `[CLS]` and `[SEP]`."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=longest,
    )  # fmt: skip
    fast.save_pretrained(str(folder))


def settings(**changes: Any) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0,
            **changes,
        }
    )  # fmt: skip


def tiny_encoder(folder: Path, seed: int = 0) -> Path:
    """A BERT without a head, as transformers writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = randomised(BertModel(settings()), seed)
    model.save_pretrained(str(folder))
    word_tokenizer(folder)
    return folder


def tiny_classifier(folder: Path, labels: tuple[str, ...] = ("bad", "fine", "good"), **changes: Any) -> Path:
    """A text classifier with random weights."""
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = randomised(BertForSequenceClassification(settings(num_labels=len(labels), **named, **changes)))
    model.save_pretrained(str(folder))
    word_tokenizer(folder)
    return folder


def as_sentence_model(folder: Path, pooling: dict[str, Any], *, dense: int | None = None, **prompts: str) -> Path:
    """Wraps an encoder's folder in what sentence-transformers writes, the weights in a folder of their own."""
    parts = [("0", "0_Transformer", "Transformer"), ("1", "1_Pooling", "Pooling")]
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(inner / path.name)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if dense is not None:
        from safetensors.torch import save_file

        place = folder / "2_Dense"
        place.mkdir()
        activation = "torch.nn.modules.activation.Tanh"
        shape = {"in_features": 16, "out_features": dense, "bias": True, "activation_function": activation}
        (place / "config.json").write_text(json.dumps(shape))
        draws = torch.Generator().manual_seed(1)
        weights = {
            "linear.weight": torch.randn(dense, 16, generator=draws),
            "linear.bias": torch.randn(dense, generator=draws),
        }
        save_file(weights, str(place / "model.safetensors"))
        parts.append(("2", "2_Dense", "Dense"))
    parts.append(("3", "3_Normalize", "Normalize"))
    modules = [{"idx": int(n), "name": n, "path": p, "type": f"sentence_transformers.models.{k}"} for n, p, k in parts]
    (folder / "modules.json").write_text(json.dumps(modules))
    (inner / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder
