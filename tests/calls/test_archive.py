"""Looking through many calls: one at a time, whatever their number."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from stillhouse.calls.archive import Archive, Selection
from stillhouse.calls.cache import CallCache, Entry
from stillhouse.core.events import Bus

_LOOK = """
import re, sys
from pathlib import Path
from stillhouse.calls.archive import Archive, Selection

with Archive(Path(sys.argv[1])) as archive:
    seen = sum(1 for _ in archive.calls(newest_first=True))
    found = sum(1 for _ in archive.calls(Selection(text="call 77 ")))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]  # of this program alone
print(seen, found, int(peak) // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_calls(tmp_path: Path) -> None:
    cache = CallCache(tmp_path, bus=Bus())

    async def fill() -> None:
        for start in range(0, 6000, 500):
            numbers = range(start, start + 500)
            await cache.put(
                [Entry(n.to_bytes(16), "text", b"call %d " % n + b"x" * 30_000, b"{}", 0.0, "m") for n in numbers]
            )

    asyncio.run(fill())
    cache.close()
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=170
    )
    seen, found, megabytes = map(int, done.stdout.split())
    assert (seen, found) == (6000, 1)
    assert megabytes < 130  # the texts are 180 MB


def test_calls_that_come_while_one_looks_are_seen_once_or_not_at_all(tmp_path: Path) -> None:
    cache = CallCache(tmp_path, bus=Bus())

    def put(numbers: range) -> None:
        entries = [Entry(n.to_bytes(16), "text", b"call %d" % n, b"{}", 0.0, "m" if n % 2 else "n") for n in numbers]
        asyncio.run(_put(cache, entries))

    put(range(1200))
    with Archive(tmp_path) as archive:
        looking = archive.calls(newest_first=True)
        keys = [next(looking).key for _ in range(10)]
        put(range(1200, 1300))
        keys += [call.key for call in looking]
        assert len(keys) == len(set(keys)) == 1200
        assert sum(1 for _ in archive.calls(Selection(model="m"))) == 650
    cache.close()


async def _put(cache: CallCache, entries: list[Entry]) -> None:
    await cache.put(entries)
