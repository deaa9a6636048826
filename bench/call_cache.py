"""The call cache: bytes on disk and CPU for each reply, beside the ways it could be kept.

20,000 calls of one template (a request of 1.3 kB, a reply of 0.8 kB as OpenAI sends it). Written in commits of 64 and
found again in look-ups of 512, in the order they were written and at random. The peer is the plain way: a key of 16
bytes, request and reply packed by zlib alone when they are long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from stillhouse.calls.cache import CallCache, Entry
from stillhouse.calls.reply import Usage
from stillhouse.core.events import Bus

_WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbour",
    "iris",
    "juniper",
    "kelp",
    "lagoon",
    "meadow",
    "nectar",
    "ochre",
    "prairie",
    "quartz",
    "ridge",
    "saffron",
    "tundra",
    "umber",
    "valley",
    "willow",
    "yarrow",
    "zephyr",
    "anchor",
    "beacon",
    "copper",
    "drift",
]


PEER = "zlib alone, key of 16 bytes"


class Measured(NamedTuple):
    """Of one way to keep replies."""

    bytes_per_row: float
    write_us: float
    read_us: float
    read_at_random_us: float


def entries(number: int) -> list[Entry]:
    draw = random.Random(1)

    def text(num_words: int) -> str:
        return " ".join(f"{draw.choice(_WORDS)}{draw.randrange(100)}" for _ in range(num_words))

    system, template = text(60), text(50)
    made = []
    for place in range(number):
        messages = [{"content": system, "role": "system"}, {"content": f"{template} {text(30)}", "role": "user"}]
        request = b'{"by":{"model":"openai/gpt-4o-mini"},"messages":' + orjson.dumps(messages) + b',"sample":0}'
        wire = {
            "id": f"chatcmpl-{draw.getrandbits(120):030x}",
            "object": "chat.completion",
            "created": 1_760_000_000 + place,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text(30), "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": draw.randrange(300),
                "completion_tokens": draw.randrange(100),
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": f"fp_{draw.getrandbits(40):010x}",
        }
        key = blake2b(request, digest_size=16).digest()
        usage = Usage(draw.randrange(300), draw.randrange(100))
        made.append(
            Entry(key, "openai.chat", orjson.dumps(wire), request, 1.0, "openai/gpt-4o-mini", "", usage, 0.0001)
        )
    return made


def ours(made: list[Entry]) -> Measured:
    folder = Path(tempfile.mkdtemp(prefix="call-cache-"))
    cache = CallCache(folder, bus=Bus())
    try:

        async def write() -> None:
            for start in range(0, len(made), 64):
                await cache.put(made[start : start + 64])

        written = _seconds(lambda: asyncio.run(write()))
        times = _read(cache.look_up, made)
        cache.close()
        return _measured(folder, len(made), written, *times)
    finally:
        cache.close()
        shutil.rmtree(folder)


def plain(made: list[Entry]) -> Measured:
    """The peer."""
    folder = Path(tempfile.mkdtemp(prefix="call-cache-"))
    connection = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=16000")
    connection.execute(
        "CREATE TABLE replies (id INTEGER PRIMARY KEY, key BLOB, form TEXT, checksum INTEGER, made REAL, seconds REAL, "
        "body BLOB, request BLOB)"
    )
    connection.execute("CREATE UNIQUE INDEX by_key ON replies (key)")

    def write() -> None:
        for start in range(0, len(made), 64):
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT OR IGNORE INTO replies (key, form, checksum, made, seconds, body, request) "
                "VALUES (?,?,?,?,?,?,?)",
                [
                    (
                        each.key,
                        each.form,
                        zlib.crc32(each.wire),
                        time.time(),
                        each.seconds,
                        _zlib(each.wire),
                        _zlib(each.request),
                    )
                    for each in made[start : start + 64]
                ],
            )
            connection.execute("COMMIT")

    def look_up(keys: list[bytes]) -> dict[bytes, bytes]:
        marks = ",".join("?" * len(keys))
        rows = connection.execute(f"SELECT key, form, body, checksum FROM replies WHERE key IN ({marks})", keys)
        return {key: zlib.decompress(body) if body[:1] != b"{" else body for key, _, body, _ in rows}

    try:
        written = _seconds(write)
        times = _read(look_up, made)
        connection.close()
        return _measured(folder, len(made), written, *times)
    finally:
        shutil.rmtree(folder)


def _zlib(data: bytes) -> bytes:
    return zlib.compress(data, 1) if len(data) > 1024 else data


def _read(look_up: Callable[[list[bytes]], Any], made: list[Entry]) -> tuple[float, float]:
    """CPU seconds of finding all, in order and at random."""
    keys = [each.key for each in made]
    times = []
    for order in (keys, random.Random(2).sample(keys, len(keys))):

        def find(order: list[bytes] = order) -> None:
            for start in range(0, len(order), 512):
                assert len(look_up(order[start : start + 512])) == len(order[start : start + 512])

        times.append(_seconds(find))
    return times[0], times[1]


def _seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _measured(folder: Path, number: int, *seconds: float) -> Measured:
    size = sum(path.stat().st_size for path in folder.glob("*.sqlite"))
    write, read, at_random = (round(1e6 * each / number, 1) for each in seconds)
    return Measured(round(size / number, 1), write, read, at_random)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    arguments = parser.parse_args()
    made = entries(2_000 if arguments.quick else 20_000)
    payload = sum(len(each.wire) + len(each.request) for each in made) / len(made)
    ways = {"stillhouse": ours(made), PEER: plain(made)}
    if arguments.json:
        own, peer = ways.values()
        names = {
            "bytes_per_row": ("bytes on disk of a call", "B"),
            "write_us": ("CPU to keep a reply", "µs"),
            "read_us": ("CPU to find a reply, in order", "µs"),
            "read_at_random_us": ("CPU to find a reply, at random", "µs"),
        }
        for field, (name, unit) in names.items():
            value, beside = getattr(own, field), getattr(peer, field)
            entry = {
                "name": name,
                "value": value,
                "unit": unit,
                "reference": PEER,
                "reference_value": beside,
                "ratio": round(value / beside, 4),
                "better": "lower",
            }
            print(json.dumps(entry, ensure_ascii=False))
        return
    print(f"{len(made):,} calls of {payload:,.0f} bytes\n")
    print(f"{'':<28} {'bytes/call':>10} {'write µs':>9} {'read µs':>8} {'at random':>10}")
    for name, way in ways.items():
        print(f"{name:<28} {way.bytes_per_row:>10,.0f} {way.write_us:>9} {way.read_us:>8} {way.read_at_random_us:>10}")


if __name__ == "__main__":
    main()
