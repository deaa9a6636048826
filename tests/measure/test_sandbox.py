"""Checks in processes of their own: what they may not do, and what becomes of one that tries."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.measure._sandbox import Program, contained, run_programs
from stillhouse.measure.function_verifier import FunctionVerifier
from stillhouse.measure.limits import Limits
from tests.measure import hostile

SMALL = Limits(seconds=60, cpu_seconds=1, memory_mib=128, file_mib=1)
WIDE = Limits(seconds=120, cpu_seconds=60)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is contained by the Linux kernel")


def reason(code: str, limits: Limits = SMALL, tests: str | None = None) -> str | None:
    (found,) = run_programs([Program(code, tests)], limits)
    return found.reason


def test_each_reply_gets_its_own_verdict_however_the_others_end(tmp_path: Path) -> None:
    verify = FunctionVerifier(function=hostile.behaves, limits=SMALL)
    replies = ["yes", "no", "loop", "yes", "crash", "leave", "exit", "eat", "fill", "raise", "print", "yes"]
    found = verify.many([({"path": "x"}, reply) for reply in replies])
    assert [verdict.reason for verdict in found] == [
        None,
        "it says no",
        "it worked for more than 1 s",
        None,
        "it died of signal SIGSEGV",
        "its process ended before it was done",
        "it left with `bye`",
        "it took more than 128 MiB of memory",
        "it wrote more than 1 MiB",
        "ValueError: no good",
        None,
        None,
    ]
    assert [verdict.accepted for verdict in found] == [verdict.reason is None for verdict in found]


def test_a_function_that_hangs_is_ended_by_the_clock() -> None:
    verify = FunctionVerifier(function=hostile.behaves, limits=Limits(seconds=0.3))
    assert verify({}, "sleep").reason == "it took longer than 0.3 s"


@linux
def test_a_function_reaches_neither_network_nor_processes_nor_files_outside(tmp_path: Path) -> None:
    assert all(contained().values())
    verify = FunctionVerifier(function=hostile.behaves, limits=SMALL)
    row = {"path": str(tmp_path / "file")}
    for reply in ("call", "fork", "write", "kill"):
        assert "PermissionError" in (verify(row, reply).reason or ""), reply
    assert not (tmp_path / "file").exists()
    open_to_all = FunctionVerifier(function=hostile.behaves, limits=SMALL.replace(network=True))
    assert open_to_all(row, "call").reason == "it says call"


def test_many_checks_share_a_process() -> None:
    verify = FunctionVerifier(function=hostile.says_who, limits=SMALL)
    workers = {verdict.reason for verdict in verify.many([({}, "")] * 500)}
    assert 1 <= len(workers) <= (os.cpu_count() or 1)


def test_rows_arrive_with_all_their_types() -> None:
    verify = FunctionVerifier(function=hostile.reads, limits=SMALL)
    row = {"when": dt.datetime(2024, 2, 29), "raw": b"\x00", "deep": {"list": [1, None]}}
    assert verify(row, "é\ud800").accepted


def test_a_function_that_says_nothing_is_a_mistake_there_too() -> None:
    with pytest.raises(RecipeError, match="`forgets` returned None"):
        FunctionVerifier(function=hostile.forgets, limits=SMALL)({}, "x")


def test_a_function_that_cannot_be_named_is_refused_with_the_remedy() -> None:
    with pytest.raises(RecipeError, match="Put it at the top of a module"):
        FunctionVerifier(function=lambda row, reply: True, limits=SMALL)({}, "x")


def test_a_module_that_is_loaded_anew_is_loaded_anew_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "renewed.py"
    source.write_text("def check(row, reply): return 'the first'")
    module = importlib.import_module("renewed")
    assert FunctionVerifier(function=module.check, limits=SMALL)({}, "x").reason == "the first"
    source.write_text("def check(row, reply): return 'the second one'")
    importlib.invalidate_caches()
    module = importlib.reload(module)
    assert FunctionVerifier(function=module.check, limits=SMALL)({}, "x").reason == "the second one"


def test_a_function_of_a_script_is_found(tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(
        textwrap.dedent(
            """
            from stillhouse.measure.function_verifier import FunctionVerifier
            from stillhouse.measure.limits import Limits

            def short(row, reply):
                return len(reply) < 3 or "too long"

            if __name__ == "__main__":
                verify = FunctionVerifier(function=short, limits=Limits())
                print([verify({}, text).reason for text in ("ab", "abc")])
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout == "[None, 'too long']\n", done.stderr


def test_a_module_that_cannot_be_loaded_there_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fickle.py").write_text(
        "import sys\nassert 'pytest' in sys.modules\ndef check(row, reply): return True"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match=r"`fickle:check` cannot be loaded in a process of its own: AssertionError"):
        FunctionVerifier(function="fickle:check", limits=SMALL)({}, "x")


@linux
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['ls'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.chmod('.', 0o777)",
        "open('/proc/self/environ').read()",
        f"open({str(Path(__file__))!r}).read()",
        "import os; os.listdir('/')",
        "open('/tmp/outside', 'w')",
        "import os; os.symlink('/etc/passwd', 'x'); open('x').read()",
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    ],
)
def test_a_program_is_kept_inside(code: str) -> None:
    assert "PermissionError" in str(reason(code)) or "not allowed" in str(reason(code))


def test_a_program_has_its_folder_its_input_threads_and_libraries() -> None:
    programs = [
        Program("open('a', 'w').write('kept'); print(open('a').read())"),
        Program("import os; print(os.listdir('.'))"),
        Program("print(input()[::-1])", stdin="été\n"),
        Program("import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()"),
        Program("import numpy; print(numpy.arange(4).sum())"),
        Program("import asyncio\nasync def go(): return 5\nprint(asyncio.run(go()))"),
    ]
    found = run_programs(programs, WIDE)
    assert [(one.reason, one.stdout) for one in found] == [
        (None, "kept\n"),
        (None, "[]\n"),
        (None, "été\n"[:3][::-1] + "\n"),
        (None, "1\n"),
        (None, "6\n"),
        (None, "5\n"),
    ]


def test_one_program_cannot_spoil_the_next() -> None:
    spoil = "import builtins, json; builtins.len = lambda x: 0; json.dumps = None; del builtins.print"
    found = run_programs([Program(spoil), Program("import json; print(len('abc'), json.dumps(1))")], SMALL)
    assert [(one.reason, one.stdout) for one in found] == [(None, ""), (None, "3 1\n")]


def test_tests_that_were_not_reached_are_not_passed() -> None:
    assert reason("x = 1", tests="assert x == 1") is None
    assert reason("x = 2", tests="assert x == 1, f'{x} it is'") == (
        "AssertionError: 2 it is (line 1 of the tests: assert x == 1, f'{x} it is')"
    )
    assert reason("import sys; sys.exit(0)", tests="assert False") == "it left with `0`"
    assert reason("import os; os._exit(0)", tests="assert False") == "its process ended before it was done"
    assert reason("import sys; sys.exit(0)") is None
    assert "NameError" in str(reason("x = y"))
    assert "SyntaxError" in str(reason("x ="))


@pytest.mark.parametrize("answer", ['{"status": []}', '{"status": "ok"}', "nonsense"])
def test_a_program_that_writes_wherever_it_can_does_not_pass_its_tests(answer: str) -> None:
    forger = f"""
import os
for channel in range(3, 64):
    try:
        os.write(channel, {answer.encode()!r} + b"\\n")
    except OSError:
        pass
os._exit(0)
"""
    assert reason(forger, tests="assert False") == "its process ended before it was done"
    assert reason("x = 1", tests="assert True") is None


def test_folders_without_end_are_taken_away() -> None:
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\nprint('down')"
    found = run_programs([Program(deep), Program("import os; print(os.listdir('.'))")] * 2, WIDE)
    assert [one.stdout for one in found] == ["down\n", "[]\n"] * 2


@linux
@pytest.mark.parametrize("flight", ["pass", "os.setsid()", "os.setsid(); os.fork() and os._exit(0)"])
def test_what_a_check_started_ends_with_it_wherever_it_went(flight: str) -> None:
    code = f"""
import os, time
read, write = os.pipe()
if os.fork() == 0:
    {flight}
    os.write(write, str(os.getpid()).encode())
    time.sleep(1000)
print(os.read(read, 20).decode())
"""
    (found,) = run_programs([Program(code)], SMALL.replace(processes=True))
    assert found.reason is None
    assert not psutil.pid_exists(int(found.stdout))


def test_a_worker_that_is_killed_is_replaced() -> None:
    assert reason("x = 1") is None
    for child in psutil.Process().children():
        if "_sandbox_worker" in " ".join(child.cmdline()):
            child.kill()
            child.wait()
    found = run_programs([Program(f"print({n})") for n in range(20)], SMALL)
    assert [one.stdout for one in found] == [f"{n}\n" for n in range(20)]


def test_the_workers_of_a_session_that_is_killed_end_with_it(tmp_path: Path) -> None:
    code = """
from stillhouse.measure._sandbox import Program, run_programs
from stillhouse.measure.limits import Limits
run_programs([Program("x = 1")], Limits())
print("ready", flush=True)
run_programs([Program("import time; time.sleep(1000)")], Limits(seconds=1000))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (worker,) = psutil.Process(process.pid).children()
        while not worker.children():
            time.sleep(0.05)
        family = [worker, *worker.children()]
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


@given(replies=st.lists(st.sampled_from(["yes", "no", "raise", "leave", "crash"]), max_size=12))
def test_in_a_process_or_not_the_verdicts_of_replies_that_do_no_harm_are_the_same(replies: list[str]) -> None:
    pairs: list[tuple[dict[str, str], str]] = [({}, reply) for reply in replies]
    apart = FunctionVerifier(function=hostile.behaves, limits=SMALL).many(pairs)
    assert len(apart) == len(pairs)
    fatal = ("leave", "crash")
    harmless = [(pair, verdict) for pair, verdict in zip(pairs, apart, strict=True) if pair[1] not in fatal]
    here = FunctionVerifier(function=hostile.behaves).many([pair for pair, _ in harmless])
    assert [verdict for _, verdict in harmless] == here
