"""Training tokens per CPU second on a model of the demo's size, beside bare PyTorch loops over the same batches.

Two references: what one writes first (transformers' model, `position_ids`, logits everywhere, AdamW, clipping), and the
same few lines with this project's forward pass, which shows what the loop itself costs. Rounds of the three alternate
in one process and the median of their ratios counts, for the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from stillhouse.core.context import Context
from stillhouse.core.events import Bus
from stillhouse.core.options import Options
from stillhouse.models.forward import Forward
from stillhouse.models.pretrained import Pretrained
from stillhouse.rows.import_ import Import
from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest
from stillhouse.tokens.batch import Batch
from stillhouse.tokens.loader import get_loader
from stillhouse.train._batches import micro_batches
from stillhouse.train._loop import Loop
from stillhouse.train.finetune import Finetune

VOCABULARY, SEQ_LEN, ROWS = 1024, 512, 8
CPU = torch.device("cpu")
WANTED = 0.9


def documents(folder: Path, count: int = 2000) -> Path:
    """Token files of short conversations: 60 to 140 tokens, of which the last 40 % are learnt."""
    draw = random.Random(0)
    layout = Layout(vocab_size=VOCABULARY, pad_id=0, end_ids=(1,), weighting="mask")
    writer = SegmentWriter(folder / "segments", 0, layout)
    for number in range(count):
        length = draw.randint(60, 140)
        ids = [draw.randrange(2, VOCABULARY) for _ in range(length)]
        writer.add(f"{number:032x}", ids, [float(place >= 0.6 * length) for place in range(length)])
    write_manifest(folder, layout, [writer.close((0, count))])
    return folder


def model() -> Any:
    """The demo's size: 1.4 million parameters."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=160,
            intermediate_size=432,
            num_hidden_layers=4,
            num_attention_heads=5,
            num_key_value_heads=5,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    ).train()


Step = Callable[[Batch], None]


def bare(loss_of: Callable[[Batch], Tensor], student: Any) -> Step:
    """Backward, clip, step: nothing else."""
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, fused=True)

    def step(batch: Batch) -> None:
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def first_written() -> Step:
    student = model()

    def loss_of(batch: Batch) -> Tensor:
        ids, positions, labels = (torch.from_numpy(part) for part in (batch.ids, batch.position_ids, batch.labels))
        logits = student(input_ids=ids, position_ids=positions, use_cache=False).logits
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    return bare(loss_of, student)


def same_forward() -> Step:
    student = model()
    forward = Forward(student)

    def loss_of(batch: Batch) -> Tensor:
        (micro,) = micro_batches(batch, None, CPU)
        return functional.cross_entropy(forward.logits(micro.tokens, micro.keep), micro.targets)

    return bare(loss_of, student)


def ours(tokens: Path, folder: Path) -> Step:
    student = model()
    recipe = Finetune(base=Pretrained(name="any"), rows=Import(data=()), seq_len=SEQ_LEN, batch_size=ROWS)
    bus = Bus()
    bus.subscribe(lambda event: None)
    context = Context(
        step=recipe,
        build_key="bench",
        work=folder,
        inputs={},
        options=Options(checkpoint_seconds=1e9),
        bus=bus,
        stop=threading.Event(),
    )
    loader = get_loader(tokens, seq_len=SEQ_LEN, batch_size=ROWS)
    loop = Loop(recipe, Forward(student), loader, None, context, CPU, 1_000_000, torch.float32)
    loop.history.start(0)
    return loop._advance


def measure(rounds: int, steps: int) -> dict[str, list[float]]:
    """Tokens per CPU second of each loop, in each round."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        tokens = documents(Path(name) / "tokens")
        loops = {"ours": ours(tokens, Path(name) / "work"), "first": first_written(), "same": same_forward()}
        loader = get_loader(tokens, seq_len=SEQ_LEN, batch_size=ROWS)
        for number in range(rounds + 1):
            batches = [loader.batch(number * steps + step) for step in range(steps)]
            for label, step in loops.items():
                begun = time.process_time()
                for batch in batches:
                    step(batch)
                speed = sum(batch.num_tokens for batch in batches) / (time.process_time() - begun)
                if number:  # the first round warms up
                    found.setdefault(label, []).append(speed)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="within 50 seconds")
    arguments = parser.parse_args()
    found = measure(rounds=3 if arguments.quick else 8, steps=2 if arguments.quick else 6)
    references = {"first": "PyTorch loop as one writes it first", "same": "bare PyTorch loop, same forward pass"}
    for label, reference in references.items():
        ratio = statistics.median(mine / other for mine, other in zip(found["ours"], found[label], strict=True))
        line = {
            "name": f"training, 1.4M parameters, rows of {SEQ_LEN}",
            "value": round(statistics.median(found["ours"])),
            "unit": "tokens/CPU-s",
            "reference": reference,
            "reference_value": round(statistics.median(found[label])),
            "ratio": round(ratio, 3),
            "better": "higher",
        }
        if arguments.json:
            print(json.dumps(line))
        else:
            print("{name}: {value} {unit}, {reference}: {reference_value}, ratio {ratio}".format_map(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
