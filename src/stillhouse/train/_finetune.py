"""The work behind `Finetune`: what goes into the loop, and the folder that comes out of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import __version__
from ..core.artifact import Model, Tokens
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.keys import digest
from ..core.step import Step
from ..models.device import in_one_order, resolve_device, set_threads
from ..models.forward import Forward
from ..models.loading import (
    ADAPTER_CONFIG,
    BASE,
    BESIDE,
    TOKENIZER_FILES,
    base_of,
    copy_files,
    dtype_of,
    is_adapter,
    link_files,
    load_model,
    save_model,
)
from ..models.pretrained import Pretrained
from ..text.tokenizer import load_tokenizer, tokenizer_digest
from ..tokens.loader import get_loader
from ..tokens.mixing import Mixture
from ..tokens.packing import Packing
from ..tokens.store import TokenStore
from ._loop import Loop, Trained
from ._randomness import seeded

if TYPE_CHECKING:
    from ..tokens._loader import Loader
    from .finetune import Finetune

GENERATION = "generation_config.json"


def finetune(step: Finetune, context: Context) -> None:
    """Train and write the result into the context's folder."""
    device = resolve_device(context.options.device)
    threads = set_threads(context.options.threads)
    precision = precision_of(step, device)
    base = context.get(step.base).path
    with seeded(step.seed), in_one_order(context.options.deterministic):
        model = _student(step, base, device, precision)
        width, rows = step.seq_len, step.batch_size
        tokens = _made(step.tokens, context)
        tokenizer_folder = _tokenizer_folder(tokens, base)
        loader = get_loader(tokens, seq_len=width, batch_size=rows, packing=step.packing, seed=step.seed)
        _check_lengths("tokens", loader, model)
        held_out = {}
        if step.held_out is not None:
            packing = Packing(too_long=step.packing.too_long)
            for name, source in _made(step.held_out, context).sources.items():
                judged = get_loader(source, seq_len=width, batch_size=rows, packing=packing, shuffle=False)
                _check_lengths("held_out", judged, model)
                held_out[name] = judged
        num_steps = step.steps or loader.steps_in(step.epochs or 3.0)
        if loader.end is not None and num_steps > loader.end:
            raise RecipeError(
                f"Finetune: the sources suffice for {loader.end} of {num_steps} updates, by its `max_epochs`",
                "Train less, add rows, or allow more: `Mixture(…, max_epochs=None)`.",
            )
        forward = Forward(model)
        loop = Loop(step, forward, loader, held_out, context, device, num_steps, precision)
        trained = loop.run()
    _write_model(step, model, context.get(step.base), context.folder, tokenizer_folder)
    _write_ends(base_of(base), context.folder, loader)
    num_kept = _hand_out_checkpoints(step, trained, context)
    shutil.copyfile(context.scratch / "history.jsonl", context.folder / "history.jsonl")
    facts = {
        **asdict(trained),
        **({"checkpoints": num_kept} if step.checkpoints else {}),
        "sources": _seen(loader),
        "learning_rate": step.peak_rate,
        "layout": forward.layout,
        "device": _device_name(device),
        "threads": threads,
        **({"deterministic": True} if context.options.deterministic else {}),
        "precision": str(precision).removeprefix("torch."),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")} | {"stillhouse": __version__},
    }
    text = json.dumps({"format": "stillhouse-training/1", **facts, "loader": loader.state_dict()}, indent=1)
    (context.folder / "training.json").write_text(text + "\n", encoding="utf-8")
    context.note(**facts)


def _seen(loader: Loader) -> dict[str, dict[str, Any]]:
    """What each source has given, and which tokens it was."""
    account = loader.account()
    return {
        source.name: {**asdict(account[source.name]), "fingerprint": source.store.fingerprint}
        for source in loader.sources
    }


def _hand_out_checkpoints(step: Finetune, trained: Trained, context: Context) -> int:
    """Put those that were kept into the result; returns their number, and warns where it is not what was asked for."""
    kept = context.scratch / "kept"
    if kept.is_dir():
        shutil.copytree(kept, context.folder / "checkpoints")
    found = len(list(kept.glob("step-*")))
    if found < step.checkpoints:
        context.warn(
            f"{found} of {step.checkpoints} `checkpoints` are in the result: training ended after {trained.steps} of "
            f"{trained.num_steps} updates"
        )
    return found


def precision_of(step: Finetune, device: torch.device) -> torch.dtype:
    """The dtype of the arithmetic on this device."""
    if step.precision == "auto":
        able = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if able else torch.float32
    return torch.bfloat16 if step.precision == "bfloat16" else torch.float32


def _student(step: Finetune, base: Path, device: torch.device, precision: torch.dtype) -> nn.Module:
    """The model to train: what learns is float32, a frozen base has the dtype of the arithmetic."""
    continued = is_adapter(base)
    if continued and step.adapter is not None:
        raise RecipeError(
            "Finetune: the base is an adapter already",
            "Leave `adapter` out to train it further, or merge it first with `Merge`.",
        )
    frozen = continued or step.adapter is not None
    on_disk = dtype_of(base_of(base))
    dtype = on_disk if frozen and precision == torch.bfloat16 else torch.float32
    model = load_model(base, device=device, dtype=dtype, trainable=True)
    return model if step.adapter is None else step.adapter(model).to(device)


def _made(tokens: Step[Tokens] | Mixture, context: Context) -> Mixture:
    """The tokens as artifacts; what is no mixture is one of a single source."""
    if not isinstance(tokens, Mixture):
        return Mixture({"data": context.get(tokens)}, max_epochs=None)
    made: Mixture = tokens.replace(sources={name: context.get(source) for name, source in tokens.sources.items()})
    return made


def _check_lengths(name: str, loader: Loader, model: nn.Module) -> None:
    """Raise `RecipeError` where documents are longer than the model's positions reach."""
    transformer: Any = model
    positions = getattr(transformer.config.get_text_config(), "max_position_embeddings", None)
    longest = max(int(source.store.lengths.max()) for source in loader.sources)
    longest = min(longest, loader.settings.seq_len)
    if positions is not None and longest > positions:
        raise RecipeError(
            f"Finetune: `{name}` have documents of {longest} tokens, the model takes {positions}",
            f"Give a `seq_len` of at most {positions}.",
        )


def _tokenizer_folder(tokens: Mixture, base: Path) -> Path:
    """Where the result takes its tokenizer from: the base, unless the tokens were rendered with another template.

    Raises `RecipeError` where the tokens were made with another vocabulary, or with several templates.
    """
    own = load_tokenizer(base)
    vocabulary = tokenizer_digest(own)
    rendered: dict[str, Path] = {}
    for name, made in tokens.sources.items():
        layout = TokenStore(made.data).layout
        if layout.tokenizer != vocabulary:
            which = f"the tokens of `{name}`" if len(tokens.sources) > 1 else "the tokens"
            raise RecipeError(
                f"Finetune: {which} were made with another tokenizer than the base's, so the ids mean other text",
                "Tokenise with `tokenizer=` the base, or give `rows=` in place of `tokens=`.",
            )
        if layout.template:
            rendered.setdefault(layout.template, made.data / "tokenizer")
    if len(rendered) > 1:
        raise RecipeError(
            f"Finetune: the sources {', '.join(tokens.sources)} were rendered with {len(rendered)} chat templates, and "
            "a model answers by one",
            "Tokenise them with the same `template`.",
        )
    template = digest(str(own.chat_template or "").encode())
    return next((folder for name, folder in rendered.items() if name != template), base)


def _write_model(step: Finetune, model: nn.Module, base: Model, folder: Path, tokenizer_folder: Path) -> None:
    full = base_of(base.path)
    if step.adapter is not None or is_adapter(base.path):
        from ..models import _adapter

        _adapter.save(model, folder, *_place_of_base(step, base))
        copy_files(tokenizer_folder, folder, TOKENIZER_FILES)
        names = sorted(path.relative_to(full).as_posix() for path in full.iterdir() if path.is_file())
        link_files(full, folder / BASE, names)
    else:
        save_model(model, folder, dtype=dtype_of(full), tokenizer_from=tokenizer_folder)


def _place_of_base(step: Finetune, base: Model) -> tuple[str, str | None]:
    """Name and commit of the full weights on the hub; `BESIDE` and None where no commit is known."""
    name, commit = None, None
    if is_adapter(base.path):
        config = json.loads((base.path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        name, commit = config.get("base_model_name_or_path"), config.get("revision")
    elif isinstance(step.base, Pretrained):
        name, commit = step.base.name, base.record.get("facts", {}).get("commit")
    return (name, commit) if name and commit else (BESIDE, None)


def _write_ends(base: Path, folder: Path, loader: Loader) -> None:
    """The generation config of the base, with the end tokens that were learnt."""
    path = base / GENERATION
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = config.get("eos_token_id")
    ends = known if isinstance(known, list) else [known] if known is not None else []
    learnt = [end for source in loader.sources for end in source.store.layout.end_ids]
    ends = list(dict.fromkeys([*ends, *learnt]))
    config["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    (folder / GENERATION).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
