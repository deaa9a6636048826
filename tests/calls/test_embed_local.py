"""Encoders of this machine as embedders, held against transformers by hand, one text at a time in float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from stillhouse.calls.embedder import Embedder
from stillhouse.calls.embedding import Vectors
from stillhouse.core.artifact import Model
from stillhouse.core.context import Context
from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from tests.calls.helpers import with_service
from tests.models.tiny import WORDS
from tests.models.tiny_encoder import as_sentence_model, tiny_encoder

TEXTS = ["red cat", "give me three green birds please", "and", "", "two dogs " * 3, "red cat", "one two three four"]
OPTIONS = Options(device="cpu", inference_batch=3)


def embed(folder: Path, by: Embedder, texts: Sequence[str] = TEXTS, role: Any = "document") -> Vectors:
    return with_service(folder, lambda service: service.vectors(by, texts, role), options=OPTIONS)


def by_hand(folder: Path, text: str, pooling: str, longest: int = 64) -> Any:
    """The vector of one text without a batch, without padding, in float64."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModel.from_pretrained(str(folder)).double().eval()
    ids = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = model(input_ids=ids).last_hidden_state[0]
    return {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1], "max": hidden.amax(0)}[pooling].numpy()


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_vectors_are_those_of_transformers_whatever_stands_beside_them(tmp_path: Path, pooling: Any) -> None:
    folder = tiny_encoder(tmp_path / "model")
    found = embed(tmp_path / "calls", Embedder(model=f"local:{folder}", pooling=pooling))
    expected = [unit(by_hand(folder, text, pooling)) for text in TEXTS]
    np.testing.assert_allclose(found.array, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "lasttoken", "embedding_dimension": 16}, "last"),
        ({}, "mean"),
    ],
)
def test_the_folder_says_how_token_vectors_become_one(tmp_path: Path, settings: dict[str, Any], pooling: str) -> None:
    folder = as_sentence_model(tiny_encoder(tmp_path / "model"), settings, query="find ", document="")
    by = Embedder(model=f"local:{folder}")
    found = embed(tmp_path / "calls", by)
    inner = folder / "0_Transformer"
    expected = [unit(by_hand(inner, text, pooling, 8)) for text in TEXTS]
    np.testing.assert_allclose(found.array, expected, atol=2e-6)
    asked = embed(tmp_path / "calls", by, ["red cat"], "query")
    np.testing.assert_allclose(asked.array[0], unit(by_hand(inner, "find red cat", pooling, 8)), atol=2e-6)
    other = embed(tmp_path / "calls", by.replace(query="give "), ["red cat"], "query")
    np.testing.assert_allclose(other.array[0], unit(by_hand(inner, "give red cat", pooling, 8)), atol=2e-6)


def test_layers_after_the_pooling_are_applied(tmp_path: Path) -> None:
    folder = as_sentence_model(tiny_encoder(tmp_path / "model"), {"pooling_mode": ["mean"]}, dense=5)
    found = embed(tmp_path / "calls", Embedder(model=f"local:{folder}", normalise=False))
    weights = load_file(str(folder / "2_Dense" / "model.safetensors"))
    matrix, bias = weights["linear.weight"].double().numpy(), weights["linear.bias"].double().numpy()
    pooled = [by_hand(folder / "0_Transformer", text, "mean", 8) for text in TEXTS]
    np.testing.assert_allclose(found.array, [np.tanh(matrix @ vector + bias) for vector in pooled], atol=2e-6)


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "model")
    key = embed(tmp_path / "calls", Embedder(model=f"local:{folder}"), ["red"]).keys[0]
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert embed(tmp_path / "calls", Embedder(model=f"local:{moved}"), ["red"]).keys[0] == key
    other = tiny_encoder(tmp_path / "other", seed=1)
    assert embed(tmp_path / "calls", Embedder(model=f"local:{other}"), ["red"]).keys[0] != key
    assert embed(tmp_path / "calls", Embedder(model=f"local:{moved}", pooling="cls"), ["red"]).keys[0] != key


class Encoder(Step[Model], tag="test.tiny_encoder/1"):
    """A model that a step makes."""

    seed: int = 0

    def run(self, context: Context) -> None:
        tiny_encoder(context.folder, self.seed)


def test_a_step_that_makes_a_model_is_an_embedder(tmp_path: Path) -> None:
    with Session(tmp_path / "store", progress=False, track=False, options=OPTIONS) as session:
        session.run(Encoder())
        array = session.wait_for(session.calls.embed(Embedder(model=Encoder()), ["red cat"]))
    expected = unit(by_hand(tiny_encoder(tmp_path / "model"), "red cat", "mean"))
    np.testing.assert_allclose(array[0], expected, atol=2e-6)


def test_shorter_vectors_are_the_beginning_at_length_one(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "model")
    found = embed(tmp_path / "calls", Embedder(model=f"local:{folder}", dimensions=4), ["red cat"])
    np.testing.assert_allclose(found.array[0], unit(by_hand(folder, "red cat", "mean")[:4]), atol=2e-6)


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RecipeError, match="neither `modules.json` nor"):
        embed(tmp_path / "calls", Embedder(model=f"local:{empty}"))
    folder = as_sentence_model(tiny_encoder(tmp_path / "model"), {"pooling_mode": "weightedmean"})
    with pytest.raises(RecipeError, match=r"asks for the pooling 'weightedmean'"):
        embed(tmp_path / "calls", Embedder(model=f"local:{folder}"))
    chosen = embed(tmp_path / "calls", Embedder(model=f"local:{folder}", pooling="cls"), ["red"])
    np.testing.assert_allclose(chosen.array[0], unit(by_hand(folder / "0_Transformer", "red", "cls")), atol=2e-6)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "type": "sentence_transformers.CNN"}]))
    with pytest.raises(RecipeError, match="a part of the kind `CNN`"):
        embed(tmp_path / "calls", Embedder(model=f"local:{folder}"))
    (folder / "modules.json").write_text("{")
    with pytest.raises(StoreError, match=r"modules\.json` cannot be read"):
        embed(tmp_path / "calls", Embedder(model=f"local:{folder}"))


def test_long_texts_are_cut_where_the_model_ends(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "model")
    text = " ".join(WORDS[number % len(WORDS)] for number in range(200))
    found = embed(tmp_path / "calls", Embedder(model=f"local:{folder}"), [text])
    np.testing.assert_allclose(found.array[0], unit(by_hand(folder, text, "mean")), atol=2e-6)
