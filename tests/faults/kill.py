"""Killing a Python program with signal 9 at chosen moments and starting it again until it ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


def run_program(arguments: Sequence[str], kill_after: float | None = None, env: dict[str, str] | None = None) -> int:
    """Run `python ARGUMENTS` from the root of the repository, killed after `kill_after` seconds. Returns its code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -signal.SIGKILL
    if process.returncode != 0:
        raise AssertionError(errors.decode())
    return 0


def run_with_kills(arguments: Sequence[str], seed: int, num_kills: int, longest: float) -> int:
    """Kill the program `num_kills` times at random moments, then let it end. Returns how many kills hit it alive."""
    chance = random.Random(seed)
    hits = 0
    for _ in range(num_kills):
        if run_program(arguments, kill_after=chance.uniform(0.3, longest)) == 0:
            return hits
        hits += 1
    run_program(arguments)
    return hits


def wait_until(condition: Path, seconds: float = 30.0) -> None:
    """Wait for a file to appear."""
    deadline = time.monotonic() + seconds
    while not condition.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition} did not appear")
        time.sleep(0.01)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all it started, with signal 9, also those that made a process group of their own."""
    victim = psutil.Process(process.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.suspend()  # so that it starts nothing between the look and the kill
        for one in [*victim.children(recursive=True), victim]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def kill_when(arguments: Sequence[str], moment: Callable[[], bool]) -> bool:
    """Start the program and kill it with all its children as soon as `moment()` holds; False where it ended before."""
    process = start_program(arguments)
    while process.poll() is None:
        if moment():
            kill_tree(process)
            return process.returncode == -signal.SIGKILL
        time.sleep(0.002)
    if process.returncode != 0:
        raise AssertionError(f"{arguments} ended with {process.returncode}")
    return False


def start_program(
    arguments: Sequence[str], env: dict[str, str] | None = None, **settings: Any
) -> subprocess.Popen[bytes]:
    """Start `python ARGUMENTS` from the root of the repository; `settings` go to `subprocess.Popen`."""
    environment = {**(env or os.environ), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **settings)


def wait_for_file(folder: Path, pattern: str, seconds: float = 60.0) -> Path:
    """The first file that matches, once it is there and has content."""
    deadline = time.monotonic() + seconds
    while True:
        found = next((path for path in folder.glob(pattern) if path.stat().st_size), None)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{pattern} did not appear in {folder}")
        time.sleep(0.01)
