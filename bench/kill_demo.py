"""The demo killed with signal 9 at random moments and started again until it ends, beside one that ran in peace.

    python bench/kill_demo.py [--json] [--quick] [--kills 20] [--seed 0]

The teacher is the demo's, at the other end of a wire, where its requests are counted. A kill hits the whole tree: the
program and the training child. The same command follows, is killed again, and so on; when it ends before all kills are
used up, it begins anew in an empty folder. Every run that ended is held against the peaceful one, byte for byte: all
rows, all parameters, the scores.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from examples.orders.teacher import reply  # noqa: E402
from tests.calls.server import Call, MisbehavingServer  # noqa: E402
from tests.faults.kill import kill_tree, start_program  # noqa: E402
from tests.faults.reached import reached  # noqa: E402

CONCURRENCY = 8
DEPLOYMENT = "orders-teacher"


def victim(output: str, url: str, quick: bool) -> None:
    """The demo's distillation, with its teacher at `url`."""
    from examples.orders import demo
    from examples.orders.schema import Order, verify
    from stillhouse.calls.ask import Ask
    from stillhouse.core.options import Options
    from stillhouse.recipes.distill import distill

    distill(
        name="orders",
        seed=demo.HERE / "seeds.jsonl",
        instruction=demo.INSTRUCTION,
        teacher=Ask(model="openai/teacher", deployment=DEPLOYMENT),
        endpoints={DEPLOYMENT: url},
        concurrency=CONCURRENCY,
        response_model=Order,
        verify=verify,
        output=output,
        options=Options(device="cpu", threads=1),
        progress=False,
        **demo.settings(quick),
    )


@dataclass
class Tally:
    """What a series of starts came to."""

    kills: int = 0
    starts: int = 0
    runs: int = 0
    cpu_seconds: float = 0.0


def start(folder: Path, url: str, quick: bool, tally: Tally, kill_after: float | None = None) -> bool:
    """Start the demo in `folder`; True where it ended, False where it was killed after `kill_after` seconds."""
    words = ["bench/kill_demo.py", "--victim", str(folder), url, *(["--quick"] if quick else [])]
    used: dict[int, float] = {}
    tally.starts += 1
    began = time.monotonic()
    process = start_program(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        used.update(cpu_of(process.pid))
        if kill_after is not None and time.monotonic() - began >= kill_after:
            kill_tree(process)
            break
        time.sleep(0.05)
    tally.cpu_seconds += sum(used.values())
    if process.returncode not in (0, -9):
        raise SystemExit(f"the demo ended with {process.returncode}")
    tally.kills += process.returncode != 0
    return process.returncode == 0


def cpu_of(root: int) -> Iterator[tuple[int, float]]:
    """CPU seconds so far of each process of the tree."""
    try:
        family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        yield one.pid, times.user + times.system


def repeated(calls: list[Call]) -> int:
    """Requests that were made before."""
    return len(calls) - len({(json.dumps(call.body, sort_keys=True), call.sample) for call in calls})


def measure(folder: Path, quick: bool, kills: int, seed: int) -> Iterator[dict[str, object]]:
    draw = random.Random(seed)
    peace, war = Tally(), Tally()
    with MisbehavingServer(reply) as server:
        began = time.monotonic()
        start(folder / "peace", server.url, quick, peace)
        seconds = time.monotonic() - began
        asked = len(server.calls)
        of_itself = repeated(server.calls)  # a reply of nothing is asked for once more
    whole = reached(folder / "peace", "orders")

    again = 0
    differing = 0
    while war.kills < kills:
        war.runs += 1
        store = folder / f"war-{war.runs}"
        with MisbehavingServer(reply) as server:
            while not start(store, server.url, quick, war, gap(draw, seconds, kills) if war.kills < kills else None):
                pass
            again += repeated(server.calls) - of_itself
        found = reached(store, "orders")
        differing += sum(found.get(name) != digest for name, digest in whole.items()) + len(found.keys() - whole.keys())

    bound = war.kills * CONCURRENCY
    extra = war.cpu_seconds - war.runs * peace.cpu_seconds
    yield line("kill -9 in the demo: kills that hit", war.kills, "kills", "asked for", kills, "higher")
    yield line("kill -9 in the demo: requests made again", again, "", "kills times calls at once", bound, "lower")
    yield line("kill -9 in the demo: requests of a peaceful run", asked, "requests", "the same", asked, "lower")
    of_all = f"of {len(whole) * war.runs} files"
    yield line("kill -9 in the demo: files that differ", differing, of_all, "none", 0, "lower")
    whose = f"CPU seconds of {war.runs} peaceful runs"
    yield line("kill -9 in the demo: CPU seconds on top", extra, "s", whose, war.runs * peace.cpu_seconds, "lower")


def gap(draw: random.Random, seconds: float, kills: int) -> float:
    """When to kill a start, in seconds: so that all kills together fall over one run or a little more."""
    return draw.uniform(0.2, 2.0 * seconds / kills)


def line(name: str, value: float, unit: str, reference: str, limit: float, better: str) -> dict[str, object]:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "reference": reference,
        "reference_value": round(limit, 2),
        "ratio": round(value / limit, 4) if limit else float(value == 0),
        "better": better,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="the quick demo and 2 kills")
    parser.add_argument("--kills", type=int, help="how often to kill (default 20, quick 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victim", nargs=2, metavar=("FOLDER", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.victim:
        output, url = arguments.victim
        victim(output, url, arguments.quick)
        return
    kills = arguments.kills or (2 if arguments.quick else 20)
    with tempfile.TemporaryDirectory() as folder:
        for found in measure(Path(folder), arguments.quick, kills, arguments.seed):
            if arguments.json:
                print(json.dumps(found), flush=True)
            else:
                held = f"({found['reference']}: {found['reference_value']})"
                print(f"{found['name']:52} {found['value']:>8} {found['unit']} {held}")


if __name__ == "__main__":
    main()
