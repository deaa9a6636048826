"""What only a GPU can show: packed rows against separate ones, training speed beside bare loops, the feed, resuming.

Everything is made here: a Llama of 124 million random weights (a tiny one with `--device cpu`, where this script can be
tried), documents of lognormal length (median 300), rows of 2,048 tokens, 16 an update. All loops are warmed up; the
median of three rounds counts, and memory is the highest that torch had allocated.

FLOPs of an update are counted as 6·N·T + 6·layers·width·ΣL²: N weights (the tied table is counted once, for the head),
T tokens, L the length of a document; causal attention is counted as half of a full one.

`make bench` does not run this: `docs/gpu.md` shows what it found, `bench/results/gpu-h200.json` holds the lines, put
together from two runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS has no deterministic way
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from _report import line, show
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from stillhouse.core.context import Context
from stillhouse.core.errors import Interrupted
from stillhouse.core.events import Bus, Event
from stillhouse.core.options import Options
from stillhouse.models import documents as module_of_documents
from stillhouse.models.adapter import Lora
from stillhouse.models.forward import Forward, PackedTokens
from stillhouse.models.pretrained import Pretrained
from stillhouse.rows.import_ import Import
from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest
from stillhouse.tokens.batch import Batch
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.torch_dataset import tensors
from stillhouse.train._batches import MicroBatch, micro_batches
from stillhouse.train._loop import Loop
from stillhouse.train._randomness import seeded
from stillhouse.train.finetune import Finetune

Lines = Iterator[dict[str, Any]]

PEAKS = {"H100": 989.4e12, "H200": 989.4e12}
"""FLOP/s of dense bfloat16 products by NVIDIA's data sheets, for the SXM cards."""


@dataclass(frozen=True)
class Size:
    """A model and its updates."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    seq_len: int
    rows: int
    steps: int

    def model(self, attention: str = "sdpa", kv_heads: int | None = None) -> Any:
        config = LlamaConfig(
            vocab_size=self.vocabulary, hidden_size=self.hidden, intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers, num_attention_heads=self.heads,
            num_key_value_heads=kv_heads or self.heads, max_position_embeddings=self.seq_len,
            tie_word_embeddings=True, initializer_range=0.02,
        )  # fmt: skip
        config._attn_implementation = attention
        torch.manual_seed(0)
        return LlamaForCausalLM(config).train()

    def flops(self, model: nn.Module, lengths: Sequence[int]) -> float:
        squares = sum(length * length for length in lengths)
        weights = sum(parameter.numel() for parameter in model.parameters())
        return 6.0 * weights * sum(lengths) + 6.0 * self.layers * self.hidden * squares


LARGE = Size(50_304, 768, 12, 12, 2048, seq_len=2048, rows=16, steps=24)
TINY = Size(512, 64, 2, 4, 128, seq_len=128, rows=4, steps=3)


@dataclass(frozen=True)
class Bench:
    """Where and how large."""

    device: torch.device
    size: Size
    folder: Path
    out: Path | None

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def tokens(self, size: Size) -> Path:
        """A folder of documents that are at most a row long; made once."""
        folder = self.folder / f"tokens-{size.seq_len}-{size.vocabulary}"
        if not folder.exists():
            draw = np.random.default_rng(0)
            layout = Layout(size.vocabulary, 0, (1,))
            writer = SegmentWriter(folder / "segments", 0, layout)
            count = 6000 if self.gpu else 200
            for number in range(count):
                length = int(np.clip(draw.lognormal(np.log(min(300, size.seq_len / 4)), 0.8), 16, size.seq_len))
                writer.add(f"{number:032x}", draw.integers(2, size.vocabulary, length).tolist())
            write_manifest(folder, layout, [writer.close((0, count))])
        return folder

    def autocast(self, precision: torch.dtype) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


# Packed rows equal separate ones


def equal(bench: Bench) -> Lines:
    """Logits and gradients of packed rows against the documents one by one, by the largest difference."""
    if bench.gpu:
        size = Size(2048, 256, 4, 4, 704, seq_len=512, rows=4, steps=1)
    else:
        size = TINY
    batch = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows).batch(0)
    lengths = [int(n) for n, source in zip(np.diff(batch.cu_seqlens), batch.source_ids, strict=True) if source >= 0]
    held = torch.from_numpy(batch.document_ids.reshape(-1) >= 0)
    state = size.model(kv_heads=size.heads // 2).state_dict()

    def fresh(attention: str) -> Any:
        model = size.model(attention, size.heads // 2)
        model.load_state_dict(state)
        return model.to(bench.device)

    ids = torch.from_numpy(batch.ids).to(bench.device)
    positions = torch.from_numpy(batch.position_ids).to(bench.device)
    flat = ids.flatten()[held.to(bench.device)]

    def alone(model: Any) -> Tensor:
        return torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in flat.split(lengths)])

    def packed(model: Any) -> Tensor:
        found = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        return found.flatten(0, 1)[held.to(bench.device)]

    def leaking(model: Any) -> Tensor:
        found = model(input_ids=ids, use_cache=False).logits
        return found.flatten(0, 1)[held.to(bench.device)]

    def by_documents(model: Any) -> Tensor:
        forward = Forward(model)
        assert forward.layout == "joined"
        return forward.logits(PackedTokens.of(flat, lengths), torch.arange(len(flat), device=bench.device))

    weights = torch.linspace(-1, 1, len(flat), device=bench.device)[:, None]

    def run(run_logits: Callable[[Any], Tensor], attention: str, precision: torch.dtype) -> tuple[Tensor, Tensor]:
        """Logits and the gradient of a weighted sum of log-sum-exps and logits, all in float32."""
        model = fresh(attention)
        with bench.autocast(precision):
            logits = run_logits(model)
        logits = logits.float()
        targets = flat[: len(logits)]
        losses = functional.cross_entropy(logits, targets, reduction="none")
        (losses * (1.5 + weights[:, 0])).sum().div(len(flat)).backward()
        gradient = torch.cat([parameter.grad.float().flatten() for parameter in model.parameters()])
        return logits.detach(), gradient

    exact = run(alone, "eager", torch.float32)
    largest = [float(part.abs().max()) for part in exact]
    ways: dict[str, tuple[Callable[[Any], Tensor], str]] = {
        "sdpa": (packed, "sdpa"),
        "eager": (packed, "eager"),
        "documents (this project)": (by_documents, "sdpa"),
        "flex_attention": (packed, "flex_attention"),
    }
    leak = run(leaking, "sdpa", torch.float32)
    for precision in (torch.float32, torch.bfloat16):
        name = str(precision).removeprefix("torch.")
        for way, (logits, attention) in ways.items():
            if attention == "flex_attention" and not bench.gpu:
                continue  # it is compiled, which is slow to try
            try:
                found = run(logits, attention, precision)
            except Exception as error:  # what a library does not offer here is a finding, no failure
                yield {"name": f"packed, {way}, {name}", "failed": f"{type(error).__name__}: {str(error)[:300]}"}
                continue
            separate = run(alone, "sdpa" if attention != "eager" else "eager", precision)
            for what, place in (("logits", 0), ("gradient", 1)):
                own = float((found[place] - separate[place]).abs().max()) / largest[place]
                if precision == torch.float32:
                    limit, against = float((leak[place] - exact[place]).abs().max()) / largest[place], "a leak"
                else:
                    limit = float((separate[place] - exact[place]).abs().max()) / largest[place]
                    against = "separate rows against float32"
                yield line(
                    f"packed against separate, {way}, {name}, {what}", own, "of largest", against, limit, "lower"
                )


# Speed


def ours(
    bench: Bench,
    size: Size,
    name: str,
    *,
    precision: torch.dtype,
    prefetch: int = 0,
    rank: int | None = None,
    **options: Any,
) -> tuple[Loop, Any]:
    """A loop that is never at its end; with a `rank` an adapter learns on a base in bfloat16."""
    model = size.model()
    if rank is not None:
        model = Lora(rank=rank)(model.to(torch.bfloat16)).train()
    model = model.to(bench.device)
    recipe = Finetune(
        base=Pretrained(name="any"), rows=Import(data=()), seq_len=size.seq_len, batch_size=size.rows, steps=1_000_000,
        learning_rate=1e-4,
    )  # fmt: skip
    bus = Bus()
    bus.subscribe(lambda event: None)
    context = Context(
        step=recipe, build_key="bench", work=bench.folder / name, inputs={},
        options=Options(checkpoint_seconds=1e9, **options), bus=bus, stop=threading.Event(),
    )  # fmt: skip
    loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows, prefetch=prefetch)
    loop = Loop(recipe, Forward(model), loader, {}, context, bench.device, 1_000_000, precision)
    loop.history.start(0)
    return loop, model


@dataclass(frozen=True)
class Speed:
    tokens: float
    """A second."""
    flops: float
    """A second."""
    memory: float
    """GB at most."""
    milliseconds: float
    """An update."""


def measured(bench: Bench, size: Size, model: nn.Module, step: Callable[[int], Sequence[int]]) -> Speed:
    """`step(n)` makes the n-th update and gives the lengths of its documents."""
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    for number in range(4 if bench.gpu else 1):
        step(number)
    bench.wait()
    rates: list[tuple[float, float, float]] = []
    number = 4
    for _ in range(3):
        lengths: list[Sequence[int]] = []
        begun = time.perf_counter()
        for _ in range(max(1, size.steps // 3)):
            lengths.append(step(number))
            number += 1
        bench.wait()
        seconds = time.perf_counter() - begun
        work = sum(size.flops(model, part) for part in lengths)
        rates.append((sum(map(sum, lengths)) / seconds, work / seconds, seconds / len(lengths) * 1e3))
    middle = sorted(rates)[1]
    memory = torch.cuda.max_memory_allocated() / 1e9 if bench.gpu else 0.0
    return Speed(middle[0], middle[1], memory, middle[2])


def lengths_of(batch: Batch) -> list[int]:
    return [int(n) for n in np.diff(batch.cu_seqlens)[batch.source_ids >= 0]]


def our_speed(
    bench: Bench, size: Size, name: str, *, look_ahead: bool = True, compiled: bool = False, **options: Any
) -> Speed:
    loop, model = ours(bench, size, name, **options)
    if compiled:
        for layer in model.model.layers:
            for part in (layer.input_layernorm, layer.post_attention_layernorm, layer.mlp):
                part.compile(dynamic=True)
    if not look_ahead:
        loop._look_ahead = lambda: None  # type: ignore[method-assign]

    def step(number: int) -> list[int]:
        batch = next(loop.loader)
        loop._advance(batch)
        return lengths_of(batch)

    found = measured(bench, size, model, step)
    loop.loader.close()
    return found


def bare(
    bench: Bench, size: Size, precision: torch.dtype, loss_of: Callable[[Any, int], Iterator[tuple[Tensor, list[int]]]],
    model: Any = None, run: Any = None,
) -> Speed:  # fmt: skip
    """Forward, backward, clip, AdamW; nothing is read back from the device. `loss_of` gives losses and lengths."""
    model = size.model().to(bench.device) if model is None else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(number: int) -> list[int]:
        lengths: list[int] = []
        with bench.autocast(precision):
            for loss, part in loss_of(model if run is None else run, number):
                loss.backward()
                lengths += part
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return lengths

    return measured(bench, size, model, step)


def full_rows(bench: Bench, size: Size) -> Callable[[Any, int], Iterator[tuple[Tensor, list[int]]]]:
    """Rows of random ids that lie on the device, each one document: no data, no documents, nothing to wait for."""
    ids = torch.randint(2, size.vocabulary, (size.rows, size.seq_len), device=bench.device)

    def loss_of(model: Any, number: int) -> Iterator[tuple[Tensor, list[int]]]:
        logits = model(input_ids=ids, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
        yield loss, [size.seq_len] * size.rows

    return loss_of


def packed_rows(bench: Bench, size: Size) -> Callable[[Any, int], Iterator[tuple[Tensor, list[int]]]]:
    """What one writes first: packed rows with `position_ids`, transformers' own attention."""
    loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows)

    def loss_of(model: Any, number: int) -> Iterator[tuple[Tensor, list[int]]]:
        batch = loader.batch(number)
        ids, positions, labels = (
            torch.from_numpy(part).to(bench.device) for part in (batch.ids, batch.position_ids, batch.labels)
        )
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100
        )
        yield loss, lengths_of(batch)

    return loss_of


def padded_rows(bench: Bench, size: Size) -> Callable[[Any, int], Iterator[tuple[Tensor, list[int]]]]:
    """A document a row, padded to the longest; as many at a time as have no more positions than the packed rows.

    The documents are those of the packed rows, in that order.
    """
    loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows)

    def loss_of(model: Any, number: int) -> Iterator[tuple[Tensor, list[int]]]:
        batch = loader.batch(number)
        lengths = lengths_of(batch)
        documents = torch.from_numpy(batch.ids.reshape(-1)[batch.document_ids.reshape(-1) >= 0]).split(lengths)
        begin = 0
        while begin < len(documents):
            end = begin + 1
            while end < len(documents) and (end + 1 - begin) * max(lengths[begin : end + 1]) <= batch.ids.size:
                end += 1
            chosen, begin = documents[begin:end], end
            ids = nn.utils.rnn.pad_sequence(list(chosen), batch_first=True).to(bench.device)
            mask = nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in chosen], batch_first=True)
            mask = mask.to(bench.device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            labels = ids.masked_fill(mask == 0, -100)
            loss = functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
            )
            yield loss / sum(lengths), [len(one) for one in chosen]

    return loss_of


def same_forward(bench: Bench, size: Size, model: Any) -> Callable[[Any, int], Iterator[tuple[Tensor, list[int]]]]:
    """This project's forward pass over batches that lie ready on the device: what the loop itself costs."""
    loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows)
    forward = Forward(model)
    ready: list[MicroBatch] = [next(iter(micro_batches(loader.batch(n), None, bench.device))) for n in range(8)]

    def loss_of(model: Any, number: int) -> Iterator[tuple[Tensor, list[int]]]:
        micro = ready[number % 8]
        logits = forward.logits(micro.tokens, micro.keep)
        yield functional.cross_entropy(logits.float(), micro.targets), list(micro.tokens.lengths)

    return loss_of


@contextmanager
def by_groups() -> Iterator[None]:
    """Attention in groups of similar length, as without the kernel."""
    kernel_for = module_of_documents.kernel_for
    module_of_documents.kernel_for = lambda *states: None
    try:
        yield
    finally:
        module_of_documents.kernel_for = kernel_for


def products(bench: Bench, precision: torch.dtype) -> float:
    """FLOP/s of a large matrix product, on random numbers."""
    width = 8192 if bench.gpu else 256
    left, right = (torch.randn(width, width, device=bench.device, dtype=precision) for _ in range(2))
    for _ in range(3):
        left @ right
    bench.wait()
    begun = time.perf_counter()
    for _ in range(10):
        left @ right
    bench.wait()
    return 10 * 2 * width**3 / (time.perf_counter() - begun)


def clear() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def speed(bench: Bench) -> Lines:
    """Tokens a second of this project's loop beside bare loops over the same model."""
    half, size = torch.bfloat16, bench.size
    measured_rate = products(bench, half)
    clear()
    plain = bare(bench, size, half, full_rows(bench, size))
    clear()
    mine = our_speed(bench, size, "bf16", precision=half)
    clear()
    update = f"{size.rows} × {size.seq_len:,} an update"
    yield line(
        f"bfloat16, {update}", mine.tokens, "tokens/s", "bare loop, full rows on the GPU", plain.tokens, "higher"
    )
    yield {"name": "milliseconds of an update", "ours": mine.milliseconds, "bare": plain.milliseconds}
    name = torch.cuda.get_device_name() if bench.gpu else "cpu"
    peak = next((rate for card, rate in PEAKS.items() if card in name), measured_rate)
    for what, rate in (("this project", mine.flops), ("bare loop, full rows", plain.flops)):
        yield line(f"bfloat16, {what}, model FLOPs", rate / 1e12, "TFLOP/s", "data sheet", peak / 1e12, "higher")
    yield line(
        "matrix product of 8,192, bfloat16", measured_rate / 1e12, "TFLOP/s", "data sheet", peak / 1e12, "higher"
    )
    yield line("bfloat16, peak memory", mine.memory, "GB", "bare loop, full rows", plain.memory, "lower")
    model = size.model().to(bench.device)
    same = bare(bench, size, half, same_forward(bench, size, model), model)
    del model
    clear()
    yield line(
        "the loop itself", mine.tokens, "tokens/s", "bare loop, same forward, batches ready", same.tokens, "higher"
    )
    with by_groups():
        grouped = our_speed(bench, size, "groups", precision=half)
    clear()
    yield line("one attention kernel", mine.tokens, "tokens/s", "attention by groups", grouped.tokens, "higher")
    yield line("one attention kernel, peak memory", mine.memory, "GB", "attention by groups", grouped.memory, "lower")
    for label, rows in (("packed rows, position_ids", packed_rows), ("padded rows", padded_rows)):
        other = bare(bench, size, half, rows(bench, size))
        clear()
        yield line("packed, this project", mine.tokens, "tokens/s", f"bare loop, {label}", other.tokens, "higher")
        yield line("packed, this project, peak memory", mine.memory, "GB", f"bare loop, {label}", other.memory, "lower")
    small = our_speed(bench, size, "micro", precision=half, micro_batch=max(1, size.rows // 4))
    clear()
    yield line("micro_batch a quarter", small.tokens, "tokens/s", "whole update at once", mine.tokens, "higher")
    yield line("micro_batch a quarter, peak memory", small.memory, "GB", "whole update at once", mine.memory, "lower")
    short = replace(size, steps=max(3, size.steps // 2))
    full = our_speed(bench, short, "f32", precision=torch.float32)
    clear()
    yield line("bfloat16", mine.tokens, "tokens/s", "float32", full.tokens, "higher")
    yield line("bfloat16, peak memory", mine.memory, "GB", "float32", full.memory, "lower")
    with by_groups():
        grouped = our_speed(bench, replace(size, steps=3), "f32-groups", precision=torch.float32)
    clear()
    yield line(
        "float32, one attention kernel", full.tokens, "tokens/s", "attention by groups", grouped.tokens, "higher"
    )
    adapted = our_speed(bench, size, "adapter", precision=half, rank=16)
    clear()
    yield line("adapter of rank 16", adapted.tokens, "tokens/s", "all weights", mine.tokens, "higher")
    yield line("adapter of rank 16, peak memory", adapted.memory, "GB", "all weights", mine.memory, "lower")
    default = replace(size, seq_len=min(1024, size.seq_len), rows=min(8, size.rows), steps=2 * size.steps)
    mine = our_speed(bench, default, "default", precision=half)
    clear()
    plain = bare(bench, default, half, full_rows(bench, default))
    clear()
    update = f"{default.rows} × {default.seq_len:,} an update"
    yield line(
        f"bfloat16, {update}", mine.tokens, "tokens/s", "bare loop, full rows on the GPU", plain.tokens, "higher"
    )
    yield {"name": "milliseconds of an update", "ours": mine.milliseconds, "bare": plain.milliseconds}


def busy(bench: Bench) -> Lines:
    """Which share of the time the GPU computes, by torch's profiler."""
    if not bench.gpu:
        return
    for size in (bench.size, replace(bench.size, seq_len=1024, rows=8)):
        loop, _ = ours(bench, size, f"busy-{size.rows}", precision=torch.bfloat16)
        for _ in range(4):
            loop._advance(next(loop.loader))
        bench.wait()
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            begun = time.perf_counter()
            for _ in range(4):
                loop._advance(next(loop.loader))
            bench.wait()
            seconds = time.perf_counter() - begun
        table = profile.key_averages()
        computing = sum(entry.self_device_time_total for entry in table if entry.device_type.name == "CUDA") / 1e6
        update = f"{size.rows} × {size.seq_len:,}"
        yield line(f"GPU computes, {update}, while profiled", computing, "s", "wall time", seconds, "higher")
        if bench.out is not None:
            text = table.table(sort_by="self_device_time_total", row_limit=45, max_name_column_width=70)
            text += table.table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=70)
            (bench.out / f"profile-{size.rows}.txt").write_text(text)
        del loop
        clear()


def compiled(bench: Bench) -> Lines:
    """What `torch.compile`, which this project does not use, would bring to the bare loop and to parts of ours."""
    size, half = bench.size, torch.bfloat16
    plain = bare(bench, size, half, full_rows(bench, size))
    clear()
    mine = our_speed(bench, size, "uncompiled", precision=half)
    clear()
    model = size.model().to(bench.device)
    begun = time.perf_counter()
    found = bare(bench, size, half, full_rows(bench, size), model, torch.compile(model))
    yield {"name": "bare loop, compiled", "seconds": time.perf_counter() - begun}
    yield line("bare loop, compiled", found.tokens, "tokens/s", "bare loop", plain.tokens, "higher")
    yield line("bare loop, compiled, peak memory", found.memory, "GB", "bare loop", plain.memory, "lower")
    del model
    clear()
    torch._dynamo.reset()
    begun = time.perf_counter()
    layers = our_speed(bench, size, "compiled", precision=half, compiled=True)
    yield {"name": "this project, norms and feed-forward compiled", "seconds": time.perf_counter() - begun}
    yield line(
        "this project, norms and feed-forward compiled",
        layers.tokens,
        "tokens/s",
        "this project",
        mine.tokens,
        "higher",
    )
    yield line(
        "this project, norms and feed-forward compiled, peak memory",
        layers.memory,
        "GB",
        "this project",
        mine.memory,
        "lower",
    )


# The feed


def feed(bench: Bench) -> Lines:
    """How long the loop waits for data, and what pinned memory does."""
    size, half = bench.size, torch.bfloat16
    loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows)
    batches = [loader.batch(number) for number in range(20 if bench.gpu else 3)]

    def each(work: Callable[[int], Any]) -> float:
        """Milliseconds, the median."""
        times = []
        for number in range(len(batches)):
            begun = time.perf_counter()
            work(number)
            times.append((time.perf_counter() - begun) * 1e3)
        return statistics.median(times)

    gather = each(loader.batch)
    bring = each(lambda number: [*micro_batches(loader.batch(number + 50), None, bench.device)])
    begun = our_speed(bench, size, "ahead-0", precision=half)
    clear()
    yield line("a batch is gathered", gather, "ms", "an update", begun.milliseconds, "lower")
    yield line("a batch is gathered, cut and sent", bring, "ms", "an update", begun.milliseconds, "lower")
    ahead = our_speed(bench, size, "ahead-2", precision=half, prefetch=2)
    clear()
    yield line("prefetch 2", ahead.tokens, "tokens/s", "prefetch 0", begun.tokens, "higher")
    late = our_speed(bench, size, "late", precision=half, look_ahead=False)
    clear()
    yield line(
        "next update sent while one computes", begun.tokens, "tokens/s", "when it is over", late.tokens, "higher"
    )
    default = replace(size, seq_len=min(1024, size.seq_len), rows=min(8, size.rows), steps=2 * size.steps)
    small = [our_speed(bench, default, f"small-{ahead}", precision=half, look_ahead=ahead) for ahead in (True, False)]
    clear()
    yield line("the same, small updates", small[0].tokens, "tokens/s", "when it is over", small[1].tokens, "higher")
    loop, model = ours(bench, size, "checkpoint", precision=half)
    loop._advance(next(loop.loader))
    bench.wait()
    began = time.perf_counter()
    loop._save()
    yield {
        "name": "a checkpoint is written and flushed",
        "seconds": time.perf_counter() - began,
        "GB": 12 * sum(parameter.numel() for parameter in model.parameters()) / 1e9,
    }
    del loop, model
    clear()
    if not bench.gpu:
        return
    left = torch.randn(8192, 8192, device=bench.device, dtype=half)
    spent: dict[bool, tuple[float, float]] = {}
    for pinned in (False, True):
        held, whole = [], []
        for number in range(12):
            given = tensors(batches[number], pin_memory=pinned)
            bench.wait()
            for _ in range(20):
                left @ left
            begun_at = time.perf_counter()
            for part in given.values():
                part.to(bench.device, non_blocking=True)
            held.append((time.perf_counter() - begun_at) * 1e3)
            bench.wait()
            begun_at = time.perf_counter()
            sent = [part.to(bench.device, non_blocking=True) for part in given.values()]
            bench.wait()
            whole.append((time.perf_counter() - begun_at) * 1e3)
            del sent
        spent[pinned] = statistics.median(held), statistics.median(whole)
    for place, what in ((0, "the host is held up by sending to a busy GPU"), (1, "sending to an idle GPU")):
        yield line(f"{what}, pinned", spent[True][place], "ms", "not pinned", spent[False][place], "lower")
    pin = each(lambda number: tensors(batches[number], pin_memory=True))
    plain = each(lambda number: tensors(batches[number]))
    yield line("tensors of a batch, pinned", pin, "ms", "not pinned", plain, "lower")


# Resuming


def resume(bench: Bench) -> Lines:
    """A run that is stopped half-way and taken up again against one that is not, and two whole runs."""
    size = Size(4096, 256, 4, 4, 704, seq_len=512, rows=8, steps=40) if bench.gpu else replace(TINY, steps=6)
    for precision in (torch.bfloat16, torch.float32):
        for exactly in (False, True):
            name = f"{str(precision).removeprefix('torch.')}, {'deterministic algorithms' if exactly else 'default'}"
            torch.use_deterministic_algorithms(exactly)
            try:
                series = [
                    losses(bench, size, f"{name}-{which}", precision, stop)
                    for which, stop in (("one", None), ("two", None), ("broken", size.steps // 2))
                ]
            except RuntimeError as error:  # torch names what has no deterministic way
                yield {"name": f"runs, {name}", "failed": str(error)[:300]}
                continue
            finally:
                torch.use_deterministic_algorithms(False)
            whole, again, broken = series
            for what, other in (("stopped half-way and taken up", broken), ("a second whole run", again)):
                apart = sum(one != two for one, two in zip(whole, other, strict=True))
                most = max(abs(one - two) / abs(one) for one, two in zip(whole, other, strict=True))
                entry = line(f"{what}, {name}: losses that differ", apart, "updates", "of", len(whole), "lower")
                yield {**entry, "largest_relative_difference": most}


def losses(bench: Bench, size: Size, name: str, precision: torch.dtype, stop: int | None) -> list[float]:
    """The loss of each update."""
    work = bench.folder / "resume" / name
    while True:
        with seeded(0):
            model = size.model().to(bench.device)
            recipe = Finetune(
                base=Pretrained(name="any"), rows=Import(data=()), seq_len=size.seq_len, batch_size=size.rows,
                steps=size.steps, learning_rate=1e-3,
            )  # fmt: skip
            event, bus = threading.Event(), Bus()

            def listen(told: Event, stop: int | None = stop, event: threading.Event = event) -> None:
                if told.kind == "metric" and told.data["step"] == stop:
                    event.set()

            bus.subscribe(listen)
            context = Context(
                step=recipe, build_key="bench", work=work, inputs={}, options=Options(checkpoint_seconds=1e9),
                bus=bus, stop=event,
            )  # fmt: skip
            loader = get_loader(bench.tokens(size), seq_len=size.seq_len, batch_size=size.rows)
            loop = Loop(recipe, Forward(model), loader, {}, context, bench.device, size.steps, precision)
            try:
                loop.run()
            except Interrupted:
                stop = None
                continue
        lines = (work / "scratch" / "history.jsonl").read_text().splitlines()
        return [json.loads(one)["loss"] for one in lines]


# The public way


def public(bench: Bench) -> Lines:
    """`Finetune` in a session, with the device left to it: rows in, a model out that answers."""
    import stillhouse as sh
    from stillhouse.text.train_tokenizer import TrainTokenizer

    words = ["latte", "mocha", "bagel", "scone", "tea", "juice"]
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"I would like {number} {word}, please"},
                {"role": "assistant", "content": f'{{"count":{number},"item":"{word}"}}'},
            ]
        }
        for number in range(1, 10)
        for word in words
    ]
    rows = sh.Import(data=chats, require=())
    base = sh.FromScratch(
        tokenizer=TrainTokenizer(rows=rows, vocab_size=400), hidden=64, layers=2, heads=4, max_length=128
    )
    step = sh.Finetune(base=base, rows=rows, epochs=60, seq_len=128, batch_size=2, learning_rate=5e-3)
    options = sh.Options(device="auto" if bench.gpu else "cpu")
    begun = time.perf_counter()
    with sh.Session(bench.folder / "public", options=options, progress=False) as session:
        model = session.run(step)
    seconds = time.perf_counter() - begun
    facts = model.record["facts"]
    (reply,) = sh.Generator(model.path, device=str(bench.device)).replies(
        [[{"role": "user", "content": "I would like 4 scone, please"}]], max_new_tokens=40
    )
    right = reply.text == '{"count":4,"item":"scone"}'
    yield {
        "name": "Finetune in a session", "seconds": seconds, "device": facts["device"], "precision": facts["precision"],
        "layout": facts["layout"], "steps": facts["steps"], "loss": facts["loss"], "answers_rightly": right,
    }  # fmt: skip


PARTS: dict[str, Callable[[Bench], Lines]] = {
    "equal": equal, "speed": speed, "busy": busy, "feed": feed, "resume": resume, "public": public,
    "compiled": compiled,
}  # fmt: skip


def machine(device: torch.device) -> dict[str, Any]:
    card = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "numpy")}
    return {"name": "machine", "card": card, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), **libraries}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all but `compiled` if none is named")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a third of the updates")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script on a tiny model")
    parser.add_argument("--out", type=Path, help="a folder for the lines of each part as they come, and profiles")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no part `{unknown[0]}`: {', '.join(PARTS)}")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device here; `--device cpu` tries the script on a tiny model", file=sys.stderr)
        return 2
    size = LARGE if device.type == "cuda" else TINY
    if arguments.quick:
        size = replace(size, steps=max(3, size.steps // 3))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, size, Path(folder), arguments.out)
        tell(machine(device), arguments.json, arguments.out, "machine")
        for part in arguments.parts or [name for name in PARTS if name != "compiled"]:
            begun = time.perf_counter()
            try:
                for entry in PARTS[part](bench):
                    tell(entry, arguments.json, arguments.out, part)
            except Exception as error:  # the parts that follow may still tell something
                failed = True
                tell({"name": part, "failed": f"{type(error).__name__}: {error}"}, arguments.json, arguments.out, part)
                import traceback

                traceback.print_exc()
            clear()
            print(f"{part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return int(failed)


def tell(entry: dict[str, Any], as_json: bool, out: Path | None, part: str) -> None:
    if "ratio" in entry and not as_json:
        show(entry, as_json=False)
    else:
        print(json.dumps(entry), flush=True)
    if out is not None:
        with (out / f"{part}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
