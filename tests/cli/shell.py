"""The command line as someone at a shell meets it, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEEDS = [{"input": f"order number {number}", "output": str(number)} for number in range(1, 9)]
RECIPE = """\
nodes:
  seeds:
    uses: rows.import
    path: seeds.jsonl
  numbered:
    uses: steps:Numbered
    rows: $seeds
  clean:
    uses: curate.dedup
    rows: $numbered
result: $clean
"""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """A working folder with `seeds.jsonl`, `recipe.yaml` and the modules `steps` and `teacher`."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path) -> Shell:
        folder.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("steps.py"), folder / "steps.py")
        shell = cls(folder)
        shell.write("seeds.jsonl", "".join(json.dumps(row) + "\n" for row in SEEDS))
        shell.write("recipe.yaml", RECIPE)
        return shell

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def __call__(self, *words: str, stdin: str | None = "", timeout: float = 120) -> Done:
        """Run `stillhouse WORDS` to its end; stdin is no terminal."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin `stillhouse WORDS` and go on at once."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "stillhouse", *words]

    def environment(self) -> dict[str, str]:
        """This process's variables without keys of providers and settings of the terminal."""
        unwanted = ("_API_KEY", "NO_COLOR", "COVERAGE")
        kept = {name: value for name, value in os.environ.items() if not name.endswith(unwanted)}
        return {**kept, "PYTHONUTF8": "1", "COLUMNS": "120", **self.env}
