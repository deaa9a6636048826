"""Works on a disk that is too small and grows a little after each failure, until all is made.

    python tests/faults/full_disk_program.py rows|training DISK STEP_BYTES

DISK is a tmpfs in a mount namespace of this program's own. Prints a JSON line for each failure, then what was made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rows(folder: Path) -> dict[str, str]:
    from tests.faults.distil_program import make_rows
    from tests.faults.reached import reached

    make_rows(folder / "store")
    return reached(folder / "store", "orders")


def training(folder: Path) -> dict[str, str]:
    from stillhouse.core.keys import digest
    from tests.models.tiny import tiny_model, tiny_tokenizer
    from tests.train.small import contents, recipe, train

    base = folder.parent / "base"
    if not base.exists():
        tiny_model(base, tiny_tokenizer(folder.parent / "tokenizer"))
    made = train(folder / "store", recipe(base))
    return {name: digest(data) for name, data in contents(made).items()}


def main(what: str, disk: str, step_bytes: str) -> None:
    if what == "training":
        from stillhouse.train.finetune import Finetune

        Finetune.isolated = False  # saves the seconds that each new process takes to import torch
    make: Callable[[Path], Any] = {"rows": rows, "training": training}[what]
    size = 0
    while True:
        size += int(step_bytes)
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
        try:
            made = make(Path(disk))
            break
        except Exception as error:
            print(json.dumps({"type": type(error).__name__, "message": str(error), "size": size}), flush=True)
    print(json.dumps({"made": made}))


if __name__ == "__main__":
    main(*sys.argv[1:])
