"""Other engines beside ours on one mock server: rows a second, CPU a row, memory, and the same command once more.

Each engine is one command (`bench/peers/ask_NAME.py`) with the Python of an environment of its own, FOLDER/NAME: they
cannot be installed together, and what is not there is left out with a word. Beside them stand a bare aiohttp loop and
ours. A command is measured from outside, from its start to its end with all its processes, on one core, while the
server has the other: some rows, more rows, and more rows again in the folder that is filled then. The CPU of a further
row is the difference of the first two; rows a second while it asks are those that the server sees. Rounds are
interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from _calls_server import Server, pin, serving
from _report import line, show
from all import machine

FOLDER = Path(__file__).parent / "peers"
PAGE = FOLDER.parent.parent / "docs" / "peers.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
FLOOR, OURS = "aiohttp", "stillhouse"
TITLES = {
    FLOOR: "bare loop on aiohttp",
    OURS: "stillhouse",
    "curator": "Curator",
    "data_designer": "Data Designer",
    "datadreamer": "DataDreamer",
    "distilabel": "distilabel",
}
WIDTH, LATENCY_MS = 64, 100
SIZES, QUICK_SIZES = (500, 2000), (100, 300)
ENOUGH = 1000
"""Rows between the sizes below which the difference of two commands says little of a row."""
ROUNDS = 3
LONGEST = 300
"""Seconds after which a command is given up."""
LOOK_EVERY = 0.2
"""Seconds between two looks at the memory of a command's processes."""


class Cost(NamedTuple):
    """One command from start to end."""

    wall: float
    cpu: float
    """Seconds of all its processes."""
    peak_mb: float
    asking: float
    """Seconds from the first row's request to the last reply, by the server's clock; 0 where nothing was asked."""
    requests: int
    in_flight: int
    version: str


class Summary(NamedTuple):
    """What is told of an engine: medians over the rounds."""

    name: str
    version: str
    rows_s: float
    asking_rows_s: float
    cpu_ms: float
    further_cpu_ms: float
    peak_mb: float
    again_s: float
    again_cpu: float
    requests: int
    again_requests: int
    in_flight: int


def child(words: list[str]) -> None:
    """Runs a command on the first core and prints its cost; itself it keeps to the other, beside the server."""
    if sys.platform == "linux":
        # Processes that outlive their parent become ours, so that their time is counted as well.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    pin(-1)
    started = time.perf_counter()
    process = subprocess.Popen(
        words, stdout=sys.stderr, stdin=subprocess.DEVNULL, cwd=tempfile.gettempdir(), preexec_fn=lambda: pin(0)
    )
    peaks, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            peaks[0] = max(peaks[0], sum(memory_mb(pid) for pid in descendants(os.getpid())))

    looking = threading.Thread(target=look)
    looking.start()
    code = process.wait()
    wall = time.perf_counter() - started
    over.set()
    looking.join()
    for pid in descendants(os.getpid()):
        os.kill(pid, 15)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    cost = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak_mb": max(largest, peaks[0])}
    print(json.dumps({"code": code, **cost}))


def descendants(pid: int) -> list[int]:
    """The processes below one, by what /proc says; none where there is no such thing."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has gone
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = below.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def memory_mb(pid: int) -> float:
    """Its memory, of which what it shares with others counts in part (PSS)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith("Pss:")), 0.0)


def cost(name: str, python: Path, server: Server, rows: int, folder: Path, tables: Path | None) -> Cost:
    """What a command costs; raises `RuntimeError` with the end of what it said where it fails or a reply is missing."""
    server.reset()
    command = [str(python), str(FOLDER / f"ask_{name}.py"), server.url("fixed", LATENCY_MS), str(rows), str(WIDTH)]
    words = [sys.executable, __file__, "--child", *command, str(folder)]
    kept = {variable: os.environ[variable] for variable in ("PATH", "LANG", "TMPDIR") if variable in os.environ}
    environment = {**kept, "HOME": f"{folder}-home", **({"TIKTOKEN_CACHE_DIR": str(tables)} if tables else {})}
    said = Path(f"{folder}.json")
    said.unlink(missing_ok=True)
    Path(environment["HOME"]).mkdir(exist_ok=True)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, 9)
        process.communicate()
        raise RuntimeError(f"it had not ended after {LONGEST} s") from None
    found: dict[str, Any] = json.loads(out.splitlines()[-1]) if out else {"code": "nothing"}
    if found["code"] != 0 or not said.exists():
        raise RuntimeError(f"it ended with {found['code']}:\n" + "\n".join(err.splitlines()[-8:]))
    told, stats = json.loads(said.read_text()), server.stats()
    if told["good"] != rows:
        raise RuntimeError(f"it has {told['good']} of {rows} replies")
    requests = stats["requests"]
    # What comes before the rows, to try the server, is not theirs.
    if requests - rows >= len(stats["starts"]):
        raise RuntimeError(f"it sent {requests} requests for {rows} rows, more than trying the server takes")
    asking = stats["last"] - stats["starts"][requests - rows] if requests >= rows else 0.0
    return Cost(found["wall"], found["cpu"], found["peak_mb"], asking, requests, stats["peak"], told["version"])


def a_round(name: str, python: Path, server: Server, sizes: tuple[int, int], tables: Path | None) -> list[Cost]:
    """Some rows, more rows, and more rows again."""
    place = Path(tempfile.mkdtemp(prefix=f"peers-{name}-"))
    try:
        few, many = sizes
        runs = ((few, "few"), (many, "many"), (many, "many"))
        return [cost(name, python, server, rows, place / folder, tables) for rows, folder in runs]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def summary(name: str, rounds: list[list[Cost]], sizes: tuple[int, int]) -> Summary:
    few, many = sizes

    def median(run: int, what: str) -> float:
        return float(statistics.median(getattr(costs[run], what) for costs in rounds))

    further = statistics.median(costs[1].cpu - costs[0].cpu for costs in rounds)
    return Summary(
        name=name,
        version=rounds[0][0].version,
        rows_s=many / median(1, "wall"),
        asking_rows_s=many / median(1, "asking"),
        cpu_ms=1000 * median(1, "cpu") / many,
        further_cpu_ms=1000 * further / (many - few),
        peak_mb=median(1, "peak_mb"),
        again_s=median(2, "wall"),
        again_cpu=median(2, "cpu"),
        requests=max(costs[1].requests for costs in rounds),
        again_requests=max(costs[2].requests for costs in rounds),
        in_flight=max(costs[1].in_flight for costs in rounds),
    )


def environments(folder: Path | None) -> Iterator[tuple[str, Path]]:
    """The engines that can be run, each with its Python; a word on stderr for each that is not installed."""
    yield FLOOR, Path(sys.executable)
    yield OURS, Path(sys.executable)
    for script in sorted(FOLDER.glob("ask_*.py")):
        name = script.stem.removeprefix("ask_")
        python = folder / name / "bin" / "python" if folder else None
        if name in (FLOOR, OURS):
            continue
        if python is None or not python.exists():
            where = f"there is no {python}" if python else "no --peers"
            print(f"{TITLES.get(name, name)}: left out, {where}", file=sys.stderr)
            continue
        yield name, python


def measure(folder: Path | None, sizes: tuple[int, int], rounds: int) -> list[Summary]:
    pythons = dict(environments(folder))
    # Two of them count tokens by tables from the net, which litellm brings along.
    tables = "*/lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"
    found = next(iter(sorted(folder.glob(tables))), None) if folder else None
    costs: dict[str, list[list[Cost]]] = {name: [] for name in pythons}
    with serving() as server:
        for number in range(rounds):
            for name in list(costs):
                try:
                    costs[name].append(a_round(name, pythons[name], server, sizes, found))
                except RuntimeError as error:
                    print(f"{TITLES.get(name, name)}: left out, {error}", file=sys.stderr, flush=True)
                    del costs[name]
                    continue
                told = ", ".join(f"{one.wall:.2f} s, {one.cpu:.2f} CPU-s" for one in costs[name][-1])
                print(f"round {number + 1}, {name}: {told}", file=sys.stderr, flush=True)
    return [summary(name, runs, sizes) for name, runs in costs.items() if runs]


def entries(found: list[Summary], sizes: tuple[int, int]) -> list[dict[str, Any]]:
    """The lines of this bench; the floor is what each is held against."""
    few, many = sizes
    floor = next(one for one in found if one.name == FLOOR)
    figures = (
        ("rows_s", "whole command", "rows/s", "higher"),
        ("asking_rows_s", "while it asks", "rows/s", "higher"),
        ("cpu_ms", "whole command", "CPU-ms/row", "lower"),
        ("further_cpu_ms", "each further row", "CPU-ms/row", "lower"),
        ("peak_mb", "peak memory", "MB", "lower"),
        ("again_s", "the same again", "s", "lower"),
        ("again_cpu", "the same again", "CPU-s", "lower"),
    )
    made = []
    for one in found:
        if one.name == FLOOR:
            continue
        for field, what, unit, better in figures:
            if field.startswith("further") and many - few < ENOUGH:
                continue
            value, base = getattr(one, field), getattr(floor, field)
            made.append(line(f"{TITLES.get(one.name, one.name)}: {what}", value, unit, TITLES[FLOOR], base, better))
    return made


def table(found: list[Summary], sizes: tuple[int, int], rounds: int) -> str:
    """What stands in the page."""
    _, many = sizes
    when = time.strftime("%Y-%m-%d", time.gmtime())
    rows = [
        f"Measured on {when}: {machine()}; {many:,} rows, {WIDTH} in flight, {LATENCY_MS} ms a reply, medians of "
        f"{rounds} interleaved rounds.",
        "",
        "| | rows/s | rows/s, while it asks | CPU ms a row | CPU ms, each further row | peak memory, MB | "
        "the same again, s | of these CPU s | most in flight | requests | requests again |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        cells = [
            f"{TITLES.get(one.name, one.name)} {one.version.rpartition(' ')[2]}",
            f"{one.rows_s:.0f}",
            f"{one.asking_rows_s:.0f}",
            f"{one.cpu_ms:.2f}",
            f"{one.further_cpu_ms:.2f}",
            f"{one.peak_mb:.0f}",
            f"{one.again_s:.2f}",
            f"{one.again_cpu:.2f}",
            f"{one.in_flight}",
            f"{one.requests:,}",
            f"{one.again_requests:,}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="one round of few rows")
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="where the environments are, each named as its peer"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--page", action="store_true", help=f"write the table into docs/{PAGE.name}")
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    options = parser.parse_args()
    sizes, rounds = (QUICK_SIZES, 1) if options.quick else (SIZES, options.rounds)
    found = measure(options.peers.resolve() if options.peers else None, sizes, rounds)
    for entry in entries(found, sizes):
        show(entry, as_json=options.json)
    if options.page:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table(found, sizes, rounds)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
