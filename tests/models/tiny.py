"""Models and tokenizers of a few thousand numbers, made in milliseconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from stillhouse.models.loading import save_model
from stillhouse.text._train_tokenizer import write
from stillhouse.text.chat import END, PAD, ROLES

WORDS = ("red", "green", "blue", "one", "two", "three", "four", "cat", "dog", "bird", "give", "me", "please", "and")


def conversation(number: int) -> list[dict[str, str]]:
    """A question and its answer, different for each number."""
    draw = random.Random(number)
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, 9))]
    return [
        {"role": "user", "content": " ".join(words)},
        {"role": "assistant", "content": " ".join(reversed(words)).upper()},
    ]


def tiny_tokenizer(folder: Path) -> Path:
    """A byte-level BPE of about 300 tokens with the project's chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message["content"] for number in range(50) for message in conversation(number)]
    tokenizer.train_from_iterator(texts, trainer)
    write(tokenizer, folder)
    return folder


def tiny_model(
    folder: Path, tokenizer: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A Llama of about 30,000 weights, large enough that its logits differ; files as a `Model` artifact has."""
    settings = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
        "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
    }  # fmt: skip
    config = LlamaConfig(vocab_size=320, **{**settings, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = randomised(AutoModelForCausalLM.from_config(config), seed)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    save_model(model, folder, dtype=dtype, tokenizer_from=tokenizer)
    return folder


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with noise on all weights, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()
