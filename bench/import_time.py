"""What it costs to begin: CPU time and modules of the entrances beside a bare interpreter; size of the core install.

The size is that of the files which pip recorded, compiled modules included, in MiB as `du -m` counts.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

MOST_MODULES, CORE_MIB, ENGINE_SECONDS = 45, 350, 0.3
ENTRANCES = {
    "python -c pass": "pass",
    "import stillhouse": "import stillhouse",
    "stillhouse --help": "import sys; from stillhouse.cli.main import main; sys.argv[1:] = ['--help']; main()",
    "import the call engine": "import stillhouse.calls.engine, stillhouse.core.session, stillhouse.generate.prompt",
}
MODULES = "import sys, atexit; atexit.register(lambda: sys.stderr.write('\\n'.join(sys.modules)));"


def cpu_seconds(code: str, repeats: int) -> float:
    """Median CPU time of a process that runs `code`; one run before counts for nothing."""
    found = []
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(found[1:])


def num_modules(code: str) -> int:
    """Modules that are not ours, on top of those of a bare interpreter."""

    def loaded(text: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", MODULES + text], check=True, capture_output=True, text=True)
        return set(done.stderr.split("\n"))

    return sum(name.partition(".")[0] != "stillhouse" for name in loaded(code) - loaded("pass"))


def core_bytes() -> int:
    """Bytes on disk of stillhouse's core dependencies and all that they need, from what pip recorded."""
    seen: set[str] = set()
    waiting = [_name(line) for line in metadata.requires("stillhouse") or [] if "extra ==" not in line]
    total = 0
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another platform or Python
            continue
        places = [Path(str(file.locate())) for file in found.files or []]
        total += sum(place.stat().st_size for place in places if place.is_file())
        waiting += [_name(line) for line in found.requires or [] if "extra ==" not in line]
    return total


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def line(name: str, value: float, unit: str, reference: str, reference_value: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "reference": reference,
        "reference_value": round(reference_value, 1),
        "ratio": round(value / reference_value, 3),
        "better": "lower",
    }


def lines(repeats: int) -> Iterator[dict[str, Any]]:
    milliseconds = {name: 1000 * cpu_seconds(code, repeats) for name, code in ENTRANCES.items()}
    bare = milliseconds.pop("python -c pass")
    for name, value in milliseconds.items():
        yield line(name, value, "CPU-ms", "bare Python", bare)
    engine = "import the call engine"
    yield line(engine, milliseconds[engine], "CPU-ms", "limit", 1000 * ENGINE_SECONDS)
    for name in ("import stillhouse", "stillhouse --help"):
        yield line(f"{name}, modules", num_modules(ENTRANCES[name]), "modules", "limit", MOST_MODULES)
    yield line("core install, with all it needs", core_bytes() / 2**20, "MiB", "limit", CORE_MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="medians of 3 in place of 15")
    options = parser.parse_args()
    for entry in lines(3 if options.quick else 15):
        shown = f"{entry['name']}: {entry['value']} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
        print(json.dumps(entry) if options.json else shown, flush=True)


if __name__ == "__main__":
    main()
