"""Every snippet of the documents runs: what a page shows is what a reader gets.

The `python` and `bash` blocks of a page run in their order in one process, in an empty folder; a block that cannot run
offline says `no-run` after its language.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONGEST = 600
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")


class Snippet(NamedTuple):
    """A block of a page; `line` is that of its first line of code, from 1."""

    line: int
    language: str
    code: str


def snippets(text: str) -> list[Snippet]:
    """The blocks of a page that are to be run."""
    found: list[Snippet] = []
    opened: re.Match[str] | None = None
    start, lines = 0, list[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, start, lines = fence, number + 1, []
        elif fence and fence["fence"].startswith(opened["fence"]) and not fence["info"].strip():
            language, *words = opened["info"].split() or [""]
            if language in ("python", "bash") and "no-run" not in words:
                found.append(Snippet(start, language, textwrap.dedent("\n".join(lines)) + "\n"))
            opened = None
        else:
            lines.append(line)
    return found


def program(page: list[Snippet]) -> str:
    """A script whose line numbers are those of the page; a shell block stands on its first line."""
    lines: list[str] = []
    for snippet in page:
        lines += [""] * (snippet.line - 1 - len(lines))
        code = snippet.code.rstrip("\n")
        if snippet.language == "bash":
            code = f"__import__('subprocess').run(['bash', '-e', '-c', {code!r}], check=True)"
        lines += code.split("\n")
    return "\n".join(lines) + "\n"


RUNNABLE = [page for page in PAGES if snippets(page.read_text())]


@pytest.mark.dear
@pytest.mark.timeout(LONGEST + 30)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    # The script's folder comes first on the path: under the page's own name it could stand for a library.
    script = tmp_path / "script" / f"page_{page.stem.replace('-', '_')}.py"
    script.parent.mkdir()
    script.write_text(program(snippets(page.read_text())))
    folder = tmp_path / "empty"
    folder.mkdir()
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\[[^\]]*\]\(([^)\s#]+)", page.read_text())
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_blocks_keep_their_lines_and_shell_blocks_run_between() -> None:
    shown = "````text\n```python\n1/0\n```\n````\n"
    page = f"# x\n\n```python\na = 1\n```\n\n```bash no-run\nfalse\n```\n{shown}```bash\nexit 3\n```\n"
    assert [(snippet.line, snippet.language) for snippet in snippets(page)] == [(4, "python"), (16, "bash")]
    assert program(snippets(page)).split("\n")[3] == "a = 1"
    done = subprocess.run([sys.executable, "-c", program(snippets(page))], capture_output=True, text=True, check=False)
    assert "exit status 3" in done.stderr
