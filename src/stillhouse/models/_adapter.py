"""The work behind `Lora`: PEFT puts the layers in and names the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn

from ..core.errors import RecipeError, StoreError
from .loading import ADAPTER_CONFIG, BUILDING, quiet

if TYPE_CHECKING:
    from .adapter import Lora


def inject(adapter: Lora, model: nn.Module) -> nn.Module:
    """See `Lora.__call__`."""
    _check_targets(adapter, model)
    alpha: Any = int(adapter.alpha) if adapter.alpha.is_integer() else adapter.alpha  # PEFT declares an int, takes both
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=alpha,
        lora_dropout=adapter.dropout,
        target_modules="all-linear" if adapter.targets == "all" else sorted(adapter.targets),
        use_rslora=adapter.scaling == "root",
    )
    with quiet():
        return get_peft_model(model, config)


def attach(model: nn.Module, folder: Path, trainable: bool) -> nn.Module:
    """`model` with the adapter in `folder`."""
    try:
        with BUILDING, quiet():
            return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable, local_files_only=True)
    except (ValueError, SafetensorError, OSError, RuntimeError) as error:
        raise StoreError(f"the adapter in `{folder}` cannot be read: {str(error).strip().splitlines()[0]}") from error


def save(model: nn.Module, folder: Path, base_name: str, revision: str | None = None) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, which names the base and its commit on the hub."""
    peft: Any = model
    peft.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's blank model card
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base_name, "revision": revision}
    config["target_modules"] = sorted(config["target_modules"])  # PEFT writes a set, in an order that varies
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_targets(adapter: Lora, model: nn.Module) -> None:
    if adapter.targets == "all":
        return
    names = [name for name, _ in model.named_modules()]
    for target in adapter.targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            linear = {
                name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)
            }
            hint = f"Its linear layers: {', '.join(sorted(linear))}."
            raise RecipeError(f"Lora: the model has no layer named `{target}`", hint)
    transformer: Any = model
    tied = bool(getattr(transformer.config.get_text_config(), "tie_word_embeddings", False))
    shared = {id(transformer.get_input_embeddings()), id(transformer.get_output_embeddings())}
    for name, module in model.named_modules():
        if tied and id(module) in shared and any(name == t or name.endswith(f".{t}") for t in adapter.targets):
            raise RecipeError(
                f"Lora: `{name}` shares its weights with the other end of the model (tied embeddings), so an adapter "
                "on it could not be merged",
                "Leave it out of `targets`.",
            )
