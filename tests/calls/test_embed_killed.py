"""A program that embeds is killed: what was kept is not asked for again, and the result is that of one in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys, time
from pathlib import Path
import stillhouse as sh
from stillhouse.calls.providers.embed_protocol import Limits
from stillhouse.calls.providers.embed_python import script_vectors

folder = Path(sys.argv[1])

def vector(text):
    with open(folder / "asked", "a") as log:
        log.write(text + "\\n")
    time.sleep(0.002)
    return [float(len(text)), float(sum(map(ord, text)))]

script_vectors("killed", vector, limits=Limits(16))
rows = sh.Import(data=[{"text": f"text {number}"} for number in range(1200)], require=())
with sh.Session(folder / "store", progress=False, track=False) as session:
    made = session.run(sh.Embed(rows=rows, by=sh.Embedder(model="scripted:killed")))
    (folder / "digest").write_text(made.digest)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, env=environment)


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_a_kill_loses_no_vector_that_was_kept(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    assert whole.wait(timeout=150) == 0
    broken = start(tmp_path / "broken")
    until = time.monotonic() + 100
    while len(asked(tmp_path / "broken")) < 400 and time.monotonic() < until:
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert start(tmp_path / "broken").wait(timeout=150) == 0
    texts = asked(tmp_path / "broken")
    assert len(set(texts)) == 1200
    # What was on the wire when it was killed, at most 32 batches of 16, is asked for again and nothing else.
    assert len(texts) - 1200 <= 32 * 16
    assert len(texts) < 2 * 1200
    assert (tmp_path / "broken" / "digest").read_text() == (tmp_path / "whole" / "digest").read_text()
