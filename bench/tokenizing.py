"""Tokens per CPU second: the encoder and the whole step `Tokenize`, beside HF tokenizers on the same texts.

The texts are the source of Python's standard library, the tokenizer a byte-level BPE of 8,192 tokens trained on part of
it. All ids are compared. The step reads rows, encodes in one process, writes and checks its segments.
"""

from __future__ import annotations

import argparse
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _report import line, show

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text.encoder import TextEncoder
from stillhouse.text.tokenizer import load_tokenizer
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens.tokenize import Tokenize

AIM = 4.0
"""Million tokens per CPU second that the encoder is to reach."""


def sources(limit: int) -> list[str]:
    """Files of the standard library, its tests aside, up to `limit` characters."""
    found, total = [], 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if {"site-packages", "test", "tests"} & set(path.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            found.append(text)
            total += len(text)
        if total > limit:
            break
    return found


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """The best of some runs."""
    found = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def opened(folder: str) -> Session:
    return Session(folder, options=Options(threads=1), progress=False, track=False)


def lines(quick: bool) -> list[dict[str, object]]:
    texts = sources(2_000_000 if quick else 12_000_000)
    with tempfile.TemporaryDirectory(prefix="tokenize-") as name, opened(name) as session:
        rows = Import(data=[{"text": text} for text in texts], require=())
        some = Import(data=[{"text": text} for text in texts[: max(20, len(texts) // 4)]], require=())
        trained = TrainTokenizer(rows=some, columns=("text",), vocab_size=8192)
        tokenizer = load_tokenizer(session.run(trained).path)
        session.run(rows)
        own, peer = TextEncoder(tokenizer), TextEncoder(tokenizer, fast=False)
        if not own.is_fast:
            raise SystemExit(f"the fast way is not taken: {own.slow_because}")
        ours, theirs = own.encode(texts), peer.encode(texts)
        if any(a.tolist() != b.tolist() for a, b in zip(ours, theirs, strict=True)):
            raise SystemExit("ids differ")
        count = sum(map(len, ours)) / 1e6
        hf = count / cpu_seconds(lambda: peer.encode(texts), 1)
        fast = count / cpu_seconds(lambda: own.encode(texts), 3)
        checked = cpu_seconds(lambda: TextEncoder(tokenizer), 2)
        # In seconds of the process: the session's own threads, reading, writing and digests are in it.
        whole = count / cpu_seconds(lambda: session.run(Tokenize(rows=rows, tokenizer=trained, text="text")), 1)
    unit, other = "M tokens/CPU-s", "HF tokenizers, the same ids"
    return [
        line("tokenising Python source, 8k byte-level BPE: encoder", fast, unit, other, hf, "higher"),
        line("tokenising Python source, 8k byte-level BPE: encoder, aim", fast, unit, "aim", AIM, "higher"),
        line("tokenising Python source: whole step, loading and checks included", whole, unit, other, hf, "higher"),
        line("tokenising: making the fast way and checking it on nasty texts", checked, "CPU-s", "limit", 1.0, "lower"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="2 MB of source in place of 12 MB")
    options = parser.parse_args()
    for entry in lines(options.quick):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
