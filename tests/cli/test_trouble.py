"""When things go wrong around a run: interruption, company, disks, damage."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import Shell

SLOW = """\
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  slow: {uses: "steps:Slow", rows: $seeds}
result: $slow
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file is there; fails when the process has ended before."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_the_command_that_resumes(shell: Shell, number: signal.Signals) -> None:
    shell.write("a recipe.yaml", SLOW)
    process = shell.start("run", "a recipe.yaml", "--set", "slow.seconds=50")
    wait_for(shell.folder / "begun", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "stopping where it can go on later" in err
    resuming = err.rstrip().splitlines()[-1]
    assert resuming.startswith("  This goes on: python")
    assert resuming.endswith(" -m stillhouse run 'a recipe.yaml' --set slow.seconds=50")
    assert "Traceback" not in err
    (shell.folder / "go").touch()
    done = shell.spawn("run", "a recipe.yaml", "--set", "slow.seconds=50", "--json", "--quiet")
    assert done.code == 0
    assert done.json["steps_made"] == 1


def test_a_second_interrupt_leaves_at_once(shell: Shell) -> None:
    shell.write("stubborn.py", STUBBORN)
    shell.write("recipe.yaml", SLOW.replace("steps:Slow", "stubborn:Stubborn"))
    process = shell.start("run", "recipe.yaml")
    wait_for(shell.folder / "begun", process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "stopping" in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    process.communicate()


STUBBORN = """
import time
from pathlib import Path
from stillhouse.core.artifact import Rows
from stillhouse.core.step import Step

class Stubborn(Step[Rows], tag="test.stubborn/1"):
    rows: Step[Rows]
    def run(self, context):
        Path("begun").touch()
        time.sleep(600)
"""


def test_two_sessions_on_one_folder_wait_for_each_other_and_work_once(shell: Shell) -> None:
    shell.write("recipe.yaml", SLOW)
    first = shell.start("run", "recipe.yaml", "--json")
    wait_for(shell.folder / "begun", first)
    second = shell.start("run", "recipe.yaml", "--json")
    assert second.stderr is not None
    said = ""
    for line in second.stderr:
        said += line
        if "waiting" in line:
            (shell.folder / "go").touch()
            break
    results = [first.communicate(timeout=60), second.communicate(timeout=60)]
    assert "another session is making `test.slow/1`" in said
    assert (first.returncode, second.returncode) == (0, 0)
    made = [out.count('"steps_made": 0') for out, _ in results]
    assert made == [0, 1]


def without_override() -> None:
    """In a child: give up root's right to write where the permissions forbid it, from the next program on."""
    drop_from_bounding_set, dac_override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


def refused(shell: Shell, *words: str, preexec: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shell.command(*words),
        cwd=shell.folder,
        env=shell.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=preexec,
    )


def test_a_folder_that_cannot_be_written_is_told(shell: Shell) -> None:
    (shell.folder / "locked").mkdir()
    (shell.folder / "locked").chmod(0o555)
    done = refused(shell, "run", "recipe.yaml", "--folder", "locked/out", preexec=without_override)
    assert done.returncode == 1
    assert done.stderr == (
        "StoreError: `locked/out` cannot be written: Permission denied\n"
        "  Choose a folder you may write to, or change its permissions.\n"
    )


def test_a_session_folder_that_became_read_only_is_told_and_can_still_be_read(shell: Shell) -> None:
    assert shell("run", "recipe.yaml", "--quiet").code == 0
    folders = [path for path in (shell.folder / "out").rglob("*") if path.is_dir() and not path.is_symlink()]
    for path in (shell.folder / "out", *folders):
        path.chmod(0o555)
    changed = ("run", "recipe.yaml", "--set", "clean.threshold=0.5", "--quiet")
    done = refused(shell, *changed, preexec=without_override)
    shown = refused(shell, "show", "recipe", "--json", preexec=without_override)
    for path in (shell.folder / "out", *folders):
        path.chmod(0o755)
    assert done.returncode == 1
    assert "StoreError: " in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert (shown.returncode, shown.stderr) == (0, "")


def tiny_disk(shell: Shell) -> list[str]:
    """A command that runs what follows with a disk of 400 kB mounted on `disk`, in a mount namespace of its own."""
    (shell.folder / "disk").mkdir()
    mounting = 'mount -t tmpfs -o size=400k tmpfs disk && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-Urm"]):
        whole = [*unshare, "sh", "-c", mounting, "sh"]
        if subprocess.run([*whole, "true"], cwd=shell.folder, capture_output=True, check=False).returncode == 0:
            return whole
    pytest.skip("no disk can be mounted here")


def test_a_full_disk_is_told_and_nothing_that_was_finished_is_lost(shell: Shell) -> None:
    shell.write(
        "recipe.yaml",
        "nodes:\n  big: {uses: 'steps:Big', num: 20}\n  some: {uses: rows.take, rows: $big, num: 3}\nresult: $some\n",
    )
    prefix = tiny_disk(shell)
    script = (
        'set -x; "$@" run recipe.yaml --folder disk/out --json --quiet && '
        '"$@" run recipe.yaml --folder disk/out --set big.num=2000 --quiet; echo "code $?"; '
        '"$@" run recipe.yaml --folder disk/out --json --quiet'
    )
    done = subprocess.run(
        [*prefix, "sh", "-c", script, "sh", *shell.command()],
        cwd=shell.folder,
        env=shell.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "code 1" in done.stdout, done.stderr
    assert "StoreError: the disk is full: " in done.stderr
    assert "run the same command: it goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert '"steps_made": 0' in done.stdout


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "record"])
def test_a_damaged_result_is_set_aside_and_made_again(shell: Shell, damage: str) -> None:
    first = shell("run", "recipe.yaml", "--json", "--quiet").json
    data = next((shell.folder / first["path"]).glob("rows-*.parquet"))
    if damage == "flip":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 0xFF
        data.write_bytes(content)
    elif damage == "cut":
        os.truncate(data, 100)
    elif damage == "gone":
        data.unlink()
    else:
        (data.parents[1] / "record.json").write_text("{")
    diagnosis = shell("doctor", "--folder", "out")
    again = shell("run", "recipe.yaml", "--json")
    assert diagnosis.code == 1
    assert f"{first['key'][:12]}: " in diagnosis.out
    assert again.code == 0
    assert f"warning: artifact {first['key'][:8]} is damaged" in again.err
    assert (again.json["digest"], again.json["steps_made"]) == (first["digest"], 1)
    assert len(list((shell.folder / "out" / "set-aside-v1").iterdir())) == 1
    assert shell("doctor").code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"input": "a", "output": "b"}\n' * 6 + "{oops\n", "seeds.jsonl, line 7"),
        ("", "seeds.jsonl: there are no rows in it"),
        ('{"input": "a"}\n', "`output`"),
    ],
)
def test_bad_seeds_are_told_with_their_place(shell: Shell, content: str, message: str) -> None:
    shell.write("seeds.jsonl", content)
    done = shell.spawn("run", "recipe.yaml", "--quiet")
    assert done.code == 1
    assert done.err.startswith("RecipeError: ")
    assert message in done.err
    assert "Traceback" not in done.err


def test_missing_seeds_are_told_with_what_lies_near(shell: Shell) -> None:
    (shell.folder / "seeds.jsonl").rename(shell.folder / "seed.jsonl")
    done = shell("run", "recipe.yaml", "--quiet")
    assert done.code == 1
    assert "there is no file `seeds.jsonl`\n  Did you mean `seed.jsonl`?" in done.err


@pytest.mark.parametrize("name", ["../away", "/tmp/away", "a/b", ".hidden", "runs", "calls-v1"])
def test_names_cannot_leave_the_folder(shell: Shell, name: str) -> None:
    done = shell("run", "recipe.yaml", "--name", name, "--quiet")
    assert done.code == 1
    assert f"`{name}` cannot be a name" in done.err
    assert not list((shell.folder / "out" / "artifacts-v1").iterdir())


def test_code_that_changes_under_a_run_is_told(shell: Shell) -> None:
    shell.write("shifty.py", SHIFTY)
    shell.write(
        "recipe.yaml",
        "nodes:\n  first: {uses: 'shifty:Shift'}\n  then: {uses: 'shifty:Isolated', rows: $first}\nresult: $then\n",
    )
    done = shell.spawn("run", "recipe.yaml", "--quiet")
    assert done.code == 1
    assert (
        "RecipeError: the code or the files that `Isolated` is made from were changed while the run was going"
        in done.err
    )
    assert shell.spawn("run", "recipe.yaml", "--quiet").code == 0


SHIFTY = """
from pathlib import Path
from stillhouse.core.artifact import Files, Rows
from stillhouse.core.step import Step

class Shift(Step[Rows], tag="test.shift/1"):
    def run(self, context):
        with context.rows() as rows:
            rows.emit({"a": 1})
        here = Path(__file__)
        here.write_text(here.read_text().replace("'be" + "fore'", "'after'"))

class Isolated(Step[Files], tag="test.isolated/1"):
    rows: Step[Rows]
    isolated = True
    def run(self, context):
        (context.folder / "text").write_text('before')
"""
