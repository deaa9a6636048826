"""The command line as someone at a shell meets it, in a folder of its own."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.cli.main import main

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

    def __call__(self, *words: str, stdin: str = "") -> Done:
        """Run `stillhouse WORDS` to its end, in this process: a new one costs most of a second."""
        out, err = io.StringIO(), io.StringIO()
        before = (os.getcwd(), dict(os.environ), list(sys.path), set(sys.modules), sys.stdin)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment())
        sys.path.insert(0, str(self.folder))
        sys.stdin = io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(list(words))
        finally:
            sys.stdin = before[4]
            self._forget_modules(before[3])
            sys.path[:] = before[2]
            os.environ.clear()
            os.environ.update(before[1])
            os.chdir(before[0])
        return Done(code, out.getvalue(), err.getvalue())

    def _forget_modules(self, known: set[str]) -> None:
        """Modules of the working folder are this shell's own."""
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(f"{self.folder}/"):
                del sys.modules[name]
        importlib.invalidate_caches()

    def spawn(self, *words: str, stdin: str = "", timeout: float = 120) -> Done:
        """The same in a process of its own; stdin is no terminal."""
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
