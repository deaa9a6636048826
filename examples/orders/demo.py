"""The main job, offline: sixteen orders become a small model that reads orders, measured against baselines.

    python examples/orders/demo.py [--output DIR] [--quick]

The teacher is a program (`examples.orders.teacher`) that is asked like a hosted model and errs like one. The student
begins with random weights. `--quick` takes seconds and shows the road, not the result.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # so that `examples.orders` can be imported from anywhere
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

INSTRUCTION = "Turn what a guest says at the counter of a coffee bar into the order as JSON."


def settings(quick: bool) -> dict[str, Any]:
    """The arguments of `distill` that differ between the whole job and the quick one."""
    from stillhouse.recipes.scratch import Scratch
    from stillhouse.rows.import_ import Import
    from stillhouse.rows.slices import Take
    from stillhouse.train.muon import Muon

    test = Import(path=HERE / "test.jsonl")
    if quick:
        return {
            "held_out": Take(rows=test, num=40),
            "student": Scratch(vocab_size=400, hidden=32, layers=1, heads=2),
            "augment_factor": 4,
            "max_tokens": 24,
            "finetune": {"epochs": 2.0, "batch_size": 4},
            "seeds_only": {"epochs": 2.0},
        }
    return {
        "held_out": test,
        "student": Scratch(vocab_size=1536, json_syntax=True, hidden=96, layers=3, heads=6, rope_theta=500.0),
        "augment_factor": 1250,
        "max_tokens": 100,
        "finetune": {"epochs": 3.0, "batch_size": 4, "learning_rate": 5e-3, "optimiser": Muon()},
        "seeds_only": {"epochs": 40.0},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="distil the orders task, offline")
    parser.add_argument("--output", default="outputs", help="folder for the result and the store (default: outputs)")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the model learns nothing")
    arguments = parser.parse_args()
    from examples.orders.schema import Order, verify
    from stillhouse.core.errors import StillhouseError
    from stillhouse.core.options import Options
    from stillhouse.recipes.distill import distill

    started = time.monotonic()
    try:
        result = distill(
            name="orders",
            seed=HERE / "seeds.jsonl",
            instruction=INSTRUCTION,
            teacher="python:examples.orders.teacher",
            response_model=Order,
            verify=verify,
            output=arguments.output,
            options=Options(device="cpu", threads=1),
            **settings(arguments.quick),
        )
    except StillhouseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(result.summary)
    print()
    print(used(time.monotonic() - started))
    print(f"report  {result.report}")
    print(f"model   {result.model_path}")
    return 0


def used(wall_seconds: float) -> str:
    """What the run took of this process and its children: CPU and wall seconds, memory at its highest."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    mebibytes = max(own.ru_maxrss, children.ru_maxrss) * unit / 2**20
    return (
        f"took    {cpu:.0f} CPU seconds, {wall_seconds:.0f} s of wall time, at most {mebibytes:.0f} MiB in one process"
    )


if __name__ == "__main__":
    sys.exit(main())
