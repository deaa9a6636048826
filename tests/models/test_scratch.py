"""Fresh models: the same for the same recipe, of the size that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from stillhouse.core.artifact import Files
from stillhouse.core.context import Context
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.models.generate import GenerationReply, Generator
from stillhouse.models.scratch import FromScratch
from tests.models.tiny import conversation, tiny_tokenizer


class TinyTokenizer(Step[Files], tag="tests.tiny_tokenizer/1"):
    """The tokenizer of these tests as a step."""

    def run(self, context: Context) -> None:
        tiny_tokenizer(context.folder)


def test_a_model_has_the_size_that_was_asked_for(session: Session) -> None:
    step = FromScratch(tokenizer=TinyTokenizer(), hidden=48, layers=3, heads=4, kv_heads=2, ff=80, max_length=64)
    model = session.run(step)
    loaded = AutoModelForCausalLM.from_pretrained(model.path)
    config = loaded.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (48, 3, 80)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    embeddings, attention, forward = 320 * 48, 2 * 48 * 48 + 2 * 48 * 24, 3 * 48 * 80
    assert model.record["facts"]["num_parameters"] == embeddings + 3 * (attention + forward + 2 * 48) + 48
    (reply,) = Generator(model.path, device="cpu").replies([conversation(1)[:1]], max_new_tokens=3)
    assert isinstance(reply, GenerationReply)


def test_models_made_at_the_same_time_do_not_share_random_numbers(tmp_path: Path) -> None:
    steps = [FromScratch(tokenizer=TinyTokenizer(), hidden=32, heads=2, layers=1, seed=seed) for seed in range(4)]
    with Session(tmp_path / "together", track=False, progress=False) as session:
        together = [artifact.digest for artifact in session.run(steps)]
    with Session(tmp_path / "alone", track=False, progress=False) as session:
        alone = [session.run(step).digest for step in reversed(steps)]
    assert together == alone[::-1]
    assert len(set(together)) == 4


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"hidden \(100\) must be heads \(3\) times an even number"):
        FromScratch(tokenizer=TinyTokenizer(), hidden=100, heads=3)
    with pytest.raises(RecipeError, match=r"heads \(4\) must be a multiple of kv_heads \(3\)"):
        FromScratch(tokenizer=TinyTokenizer(), hidden=64, heads=4, kv_heads=3)


def test_the_default_feed_forward_is_eight_thirds_of_the_width() -> None:
    assert FromScratch(tokenizer=TinyTokenizer()).feed_forward == 432
