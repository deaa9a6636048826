"""Model folders: a round trip changes nothing, and what is missing or damaged is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.models.loading import dtype_of, load_model, save_model
from stillhouse.text.tokenizer import load_tokenizer
from tests.models.tiny import tiny_model


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_and_loading_keeps_every_weight_and_the_dtype(
    tmp_path: Path, tokenizer_folder: Path, dtype: torch.dtype
) -> None:
    folder = tiny_model(tmp_path / "model", tokenizer_folder, dtype=dtype)
    assert dtype_of(folder) == dtype
    first = load_model(folder)
    save_model(first, tmp_path / "again", dtype=dtype, tokenizer_from=folder)
    second = load_model(tmp_path / "again")
    for (name, left), (other, right) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert name == other
        assert left.dtype == right.dtype == dtype
        assert torch.equal(left, right)


def test_transformers_alone_loads_the_folder(model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    assert model.config._attn_implementation == "sdpa"
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "one"}], tokenize=False)
    assert rendered.startswith("<|user|> one")


def test_tied_embeddings_stay_tied(model_folder: Path) -> None:
    model = load_model(model_folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # type: ignore[operator]


def test_a_missing_weight_is_an_error(tmp_path: Path, model_folder: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match=r"1 are missing .*layers\.1\.self_attn\.q_proj"):
        load_model(folder)


def test_a_weight_of_another_shape_is_an_error(tmp_path: Path, model_folder: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(StoreError, match="mlp"):
        load_model(folder)


def test_a_torn_file_is_an_error(tmp_path: Path, model_folder: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="cannot be read"):
        load_model(folder)


def test_pickled_weights_are_never_read(tmp_path: Path, model_folder: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match="no weights as safetensors"):
        load_model(folder)


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path, model_folder: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "code.Homemade"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('this was run')\n")
    with pytest.raises(RecipeError, match="cannot be used as a model"):
        load_model(folder)


def test_a_folder_that_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no config\.json"):
        load_model(tmp_path)
    with pytest.raises(RecipeError, match="no tokenizer"):
        load_tokenizer(tmp_path)
