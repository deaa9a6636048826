"""What a training is expected to take, for plans: from file headers and a few measured constants, without torch."""

from __future__ import annotations

import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifact import Artifact
from ..core.errors import StoreError
from ..core.plan import Expectation
from ..core.step import Step
from ..models.pretrained import Pretrained
from ..models.scratch import FromScratch
from ..tokens.mixing import Mixture
from ..tokens.store import TokenStore

if TYPE_CHECKING:
    from ..core.session import Session
    from .finetune import Finetune

# Measured in float32 on Llama-type models of 1 to 40 million parameters, one thread of a Xeon with AVX512; a laptop
# differs by a factor of two or so.
FLOPS_PER_THREAD = 60e9
ACTIVATION_BYTES = 120
"""For each token of a micro-batch, layer and unit of width."""
LOGIT_BYTES = 12
"""For each learnt token of a micro-batch and entry of the vocabulary; as if every token were learnt."""
PROCESS_BYTES = 400 << 20
"""A process that has imported torch and transformers."""


@dataclass(frozen=True)
class Shape:
    """What time and memory depend on."""

    num_parameters: int
    layers: int
    hidden: int
    vocabulary: int


def expectation(step: Finetune, session: Session) -> Expectation:
    """Time on the CPU (unknown for GPUs) and memory at its highest; None where model or data are not there yet."""
    shape = _shape(step.base, session)
    if shape is None:
        return Expectation()
    options = session.options
    adapted = step.adapts
    rows = min(options.micro_batch or step.batch_size, step.batch_size)
    width = rows * step.seq_len
    weights = shape.num_parameters * (4 if adapted else 16)  # with gradients and both moments where they learn
    activations = width * (shape.layers * shape.hidden * ACTIVATION_BYTES + shape.vocabulary * LOGIT_BYTES)
    tokens = _tokens(step, session)
    seconds = None
    if tokens is not None and _on_cpu(options.device):
        work = (4 if adapted else 6) * shape.num_parameters * tokens
        seconds = work / (FLOPS_PER_THREAD * (options.threads or os.cpu_count() or 1))
    return Expectation(seconds=seconds, memory_bytes=PROCESS_BYTES + weights + activations)


def _on_cpu(device: str) -> bool:
    return device == "cpu" or (device == "auto" and shutil.which("nvidia-smi") is None)


def _tokens(step: Finetune, session: Session) -> float | None:
    """Tokens seen in the whole run; for `steps` as if all rows were full."""
    if step.steps is not None:
        return float(step.steps * step.batch_size * step.seq_len)
    sources = step.tokens.sources.values() if isinstance(step.tokens, Mixture) else (step.tokens,)
    made = [_made(source, session) for source in sources]
    if None in made:
        return None
    try:
        return sum(TokenStore(one.data).num_tokens for one in made if one is not None) * (step.epochs or 3.0)
    except StoreError:
        return None  # a plan is not where damaged tokens are reported


def _shape(base: Step[Any], session: Session) -> Shape | None:
    made = _made(base, session)
    if made is not None:
        return _shape_of_folder(made.data)
    if isinstance(base, FromScratch):
        return _shape_from_scratch(base)
    if isinstance(base, Pretrained) and Path(base.name).expanduser().is_dir():
        return _shape_of_folder(Path(base.name).expanduser())
    return None


def _shape_from_scratch(base: FromScratch) -> Shape | None:
    vocabulary = getattr(base.tokenizer, "vocab_size", None)
    if not isinstance(vocabulary, int):
        return None
    keys = base.hidden * (base.kv_heads or base.heads) // base.heads
    layer = 2 * base.hidden * (base.hidden + keys) + 3 * base.hidden * base.feed_forward
    ends = vocabulary * base.hidden * (1 if base.tie_embeddings else 2)
    return Shape(base.layers * layer + ends, base.layers, base.hidden, vocabulary)


def _shape_of_folder(folder: Path) -> Shape | None:
    folder = folder / "base" if (folder / "base").is_dir() else folder
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        num_parameters = sum(_num_parameters(path) for path in folder.glob("*.safetensors"))
    except (OSError, ValueError):
        return None  # a plan is not where a broken model is reported
    layers, hidden = config.get("num_hidden_layers"), config.get("hidden_size")
    if not num_parameters or not isinstance(layers, int) or not isinstance(hidden, int):
        return None
    return Shape(num_parameters, layers, hidden, int(config.get("vocab_size", 0)))


def _num_parameters(path: Path) -> int:
    """From the header of a safetensors file."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            count = 1
            for length in entry["shape"]:
                count *= length
            total += count
    return total


def _made(step: Step[Any], session: Session) -> Artifact | None:
    """The artifact of a step, if it was made before."""
    known = session.store.recall(step.recipe_key)
    return None if known is None else session.store.open(known.build_key)
