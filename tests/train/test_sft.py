"""A model that was trained writes what it was shown, and stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stillhouse.models.generate import GenerationReply, Generator
from stillhouse.train.schedule import Constant
from tests.models.tiny import conversation
from tests.train.small import conversations, history, recipe, train


@pytest.mark.usefixtures("in_process")
def test_an_overfitted_model_answers_and_stops(tmp_path: Path, base: Path) -> None:
    step = recipe(
        base, rows=conversations(0, 6), held_out=None, evaluate_every=None, steps=120, learning_rate=1e-2, seq_len=128
    )
    model = train(tmp_path, step)
    series = [line["loss"] for line in history(model)]
    assert series[0] > 3
    assert series[-1] < 0.05
    wanted = [conversation(number) for number in range(6)]
    replies = Generator(model.path, device="cpu").replies([messages[:1] for messages in wanted], max_new_tokens=60)
    for reply, messages in zip(replies, wanted, strict=True):
        assert isinstance(reply, GenerationReply)
        assert (reply.text, reply.finish) == (messages[1]["content"], "stop")


@pytest.mark.usefixtures("in_process")
def test_the_evaluated_loss_is_that_of_transformers_whatever_the_batch(tmp_path: Path, base: Path) -> None:
    losses = []
    for batch_size in (1, 2, 8):
        step = recipe(base, batch_size=batch_size, steps=1)
        losses.append(history(train(tmp_path / str(batch_size), step))[0]["eval_loss"])
    losses.append(history(train(tmp_path / "micro", recipe(base, steps=1), micro_batch=1))[0]["eval_loss"])
    assert losses == pytest.approx([naive_loss(base, range(40, 50))] * 4, rel=1e-6)


def naive_loss(folder: Path, numbers: range) -> float:
    """Mean over the tokens that the assistant writes, one conversation at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder).double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for number in numbers:
        question = tokenizer.apply_chat_template(
            conversation(number)[:1], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        answer = tokenizer.encode(conversation(number)[1]["content"] + "<|end|>", add_special_tokens=False)
        ids = torch.tensor([*question, *answer])
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, len(question) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[len(question) :], reduction="sum"))
        count += len(answer)
    return total / count


@pytest.mark.usefixtures("in_process")
def test_the_logged_series_say_what_happened(tmp_path: Path, base: Path) -> None:
    step = recipe(base, schedule=Constant(warmup=0.5))
    lines = history(train(tmp_path, step))
    updates = [line for line in lines if "loss" in line]
    assert [line["learning_rate"] for line in updates[:6]] == pytest.approx([3e-3 * k / 6 for k in range(1, 7)])
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 3, 6, 9, 12]
    assert all(line["grad_norm"] > 0 for line in updates)
    tokens = [line["tokens"] for line in updates]
    assert tokens == sorted(tokens)
