"""Adapters: neutral at the start, alone in learning, exact when merged, refused where they could not be merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.models import _adapter
from stillhouse.models._merge import merge
from stillhouse.models.adapter import Lora
from stillhouse.models.generate import Generator
from stillhouse.models.loading import BASE, TOKENIZER_FILES, copy_files, dtype_of, link_files, load_model
from tests.models.tiny import conversation, tiny_model

IDS = torch.arange(1, 60)[None] % 320


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, use_cache=False).logits
    return found.float()


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """The adapter as training might leave it."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model


def adapter_folder(base: Path, folder: Path, adapter: Lora, seed: int = 0) -> Path:
    """A result as `Finetune` writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = trained(adapter(load_model(base)), seed)
    _adapter.save(model, folder, BASE)
    copy_files(base, folder, TOKENIZER_FILES)
    link_files(base, folder / BASE, [path.name for path in base.iterdir()])
    return folder


@pytest.mark.parametrize(
    "adapter", [Lora(rank=4), Lora(rank=3, alpha=5, scaling="root", dropout=0.5, targets=("q_proj",))]
)
def test_a_fresh_adapter_changes_nothing(model_folder: Path, adapter: Lora) -> None:
    before = logits(load_model(model_folder))
    model: Any = adapter(load_model(model_folder)).eval()
    assert torch.equal(logits(model), before)
    trained(model)
    assert not torch.allclose(logits(model), before, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)


def test_only_the_adapter_learns_and_all_of_it_does(model_folder: Path) -> None:
    model = trained(Lora(rank=4)(load_model(model_folder)))
    transformer: Any = model
    torch.autograd.backward(transformer(input_ids=IDS, use_cache=False).logits.logsumexp(-1).sum())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is ("lora_" in name)
        assert (parameter.grad is not None and bool(parameter.grad.any())) is ("lora_" in name)


@pytest.mark.parametrize(("scaling", "factor"), [("rank", 6.0 / 4), ("root", 6.0 / 2)])
def test_the_change_of_a_layer_is_the_scaled_product(model_folder: Path, scaling: Any, factor: float) -> None:
    model: Any = trained(Lora(rank=4, alpha=6, scaling=scaling)(load_model(model_folder)))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(layer.get_delta_weight("default"), factor * product)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_merged_model_equals_the_adapter(
    tmp_path: Path, tokenizer_folder: Path, tied: bool, dtype: torch.dtype
) -> None:
    base = tiny_model(tmp_path / "base", tokenizer_folder, tie_word_embeddings=tied, dtype=dtype)
    folder = adapter_folder(base, tmp_path / "adapter", Lora(rank=4, dropout=0.3))
    facts = merge(folder, tmp_path / "merged")
    assert dtype_of(tmp_path / "merged") == dtype
    # Both in float32: how far bfloat16 arithmetic strays differs from processor to processor, the weights do not.
    merged = load_model(tmp_path / "merged", dtype=torch.float32)
    expected = logits(load_model(folder, dtype=torch.float32))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05  # bfloat16 keeps 8 bits of each weight; 0.02 seen at most
    assert float((logits(merged) - expected).norm() / expected.norm()) < tolerance
    assert facts["merge_error"] < 1e-5
    agreement = (logits(merged).argmax(-1) == expected.argmax(-1)).float().mean()
    assert agreement > (0.99 if dtype == torch.float32 else 0.8)
    ends: Any = merged
    assert (ends.get_input_embeddings().weight is ends.get_output_embeddings().weight) is tied


def test_an_adapter_folder_is_found_again_and_generates(tmp_path: Path, model_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = adapter_folder(model_folder, tmp_path / "adapter", Lora(rank=4))
    alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / BASE), str(folder)).eval()
    assert torch.equal(logits(alone), logits(load_model(folder)))
    prompts = [conversation(number)[:1] for number in range(3)]
    merge(folder, tmp_path / "merged")
    found = Generator(folder, device="cpu").replies(prompts, max_new_tokens=12)
    assert found == Generator(tmp_path / "merged", device="cpu").replies(prompts, max_new_tokens=12)
    assert found != Generator(model_folder, device="cpu").replies(prompts, max_new_tokens=12)


def test_a_quantised_base_is_not_merged_into(tmp_path: Path, model_folder: Path) -> None:
    folder = adapter_folder(model_folder, tmp_path / "adapter", Lora(rank=2))
    path = folder / BASE / "config.json"
    config = json.loads(path.read_text())
    path.unlink()  # it is a link to the shared model
    path.write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )
    with pytest.raises(RecipeError, match="quantised") as caught:
        merge(folder, tmp_path / "merged")
    assert "unquantised base" in str(caught.value)


def test_full_weights_are_nothing_to_merge(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(RecipeError, match="no adapter"):
        merge(model_folder, tmp_path)


def test_an_adapter_on_tied_embeddings_is_refused(model_folder: Path) -> None:
    with pytest.raises(RecipeError, match="tied embeddings"):
        Lora(targets=("lm_head",))(load_model(model_folder))


def test_an_unknown_target_is_refused_with_those_that_exist(model_folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"no layer named `query`") as caught:
        Lora(targets=("q_proj", "query"))(load_model(model_folder))
    assert "q_proj" in str(caught.value)


def test_an_adapter_without_its_base_says_where_to_put_it(tmp_path: Path, model_folder: Path) -> None:
    folder = adapter_folder(model_folder, tmp_path / "adapter", Lora(rank=2))
    for path in (folder / BASE).iterdir():
        path.unlink()
    (folder / BASE).rmdir()
    with pytest.raises(RecipeError, match="does not hold its base"):
        load_model(folder)


def test_a_torn_adapter_is_an_error(tmp_path: Path, model_folder: Path) -> None:
    folder = adapter_folder(model_folder, tmp_path / "adapter", Lora(rank=2))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(StoreError, match="cannot be read"):
        load_model(folder)
