"""The call cache on disk: kept, shared, checked, and mended when it is damaged."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.cache import CallCache, Entry, Kept
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.service import CallService
from stillhouse.core.errors import StoreError
from stillhouse.core.events import Bus, Event
from tests.calls.helpers import prompts, with_service

TEACHER = Ask(model="scripted:teacher")


def entry(number: int, text: str = "reply") -> Entry:
    return Entry(number.to_bytes(16), "text", f"{text} {number}".encode(), b'{"n":%d}' % number, 0.5)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def cache(tmp_path: Path, events: list[Event]) -> Iterator[CallCache]:
    opened = opened_at(tmp_path, events)
    yield opened
    opened.close()


def opened_at(folder: Path, events: list[Event] | None = None) -> CallCache:
    bus = Bus()
    if events is not None:
        bus.subscribe(events.append)
    return CallCache(folder, bus=bus)


def put(cache: CallCache, *entries: Entry) -> dict[bytes, Kept]:
    async def work() -> dict[bytes, Kept]:
        return await cache.put(entries)

    return asyncio.run(work())


def test_what_was_put_is_found_by_another_opening(tmp_path: Path, cache: CallCache) -> None:
    put(cache, *(entry(number) for number in range(1300)))
    cache.close()
    again = opened_at(tmp_path)

    keys = [number.to_bytes(16) for number in range(1500)]
    found = again.look_up(keys)

    assert len(found) == len(again) == 1300
    assert found[keys[7]] == ("text", b"reply 7")
    assert again.requests(keys[:2]) == {keys[0]: b'{"n":0}', keys[1]: b'{"n":1}'}
    again.close()


@given(
    kept=st.permutations(range(560)),
    asked=st.lists(st.integers(0, 600), min_size=500, max_size=560),
    in_order=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_many_keys_are_found_as_one_is_wherever_their_records_lie(
    tmp_path_factory: pytest.TempPathFactory, kept: list[int], asked: list[int], in_order: bool
) -> None:
    cache = opened_at(tmp_path_factory.mktemp("calls"))
    put(cache, *(entry(number) for number in (sorted(kept) if in_order else kept)))
    keys = [number.to_bytes(16) for number in (sorted(asked) if in_order else asked)]
    one_by_one = {key: value for each in set(keys) for key, value in cache.look_up([each]).items()}
    assert cache.look_up(keys) == one_by_one
    assert len(one_by_one) == len({number for number in asked if number < 560})
    cache.close()


def test_long_replies_and_requests_are_packed(tmp_path: Path, cache: CallCache) -> None:
    long = Entry(b"k" * 16, "openai.chat", b"word " * 10_000, b"{" + b"ask " * 10_000)
    put(cache, long)

    assert cache.look_up([long.key])[long.key][1] == long.wire
    assert cache.requests([long.key])[long.key] == long.request
    with sqlite3.connect(tmp_path / "calls.sqlite") as reader:
        ((body, request),) = reader.execute("SELECT length(body), length(request) FROM replies").fetchall()
    assert max(body, request) < 2000


def test_the_first_reply_under_a_key_stands(tmp_path: Path, cache: CallCache) -> None:
    other = opened_at(tmp_path)
    put(other, entry(1, "theirs"))

    standing = put(cache, entry(1, "ours"), entry(2, "ours"))

    assert standing == {entry(1).key: ("text", b"theirs 1")}
    assert cache.look_up([entry(2).key])[entry(2).key][1] == b"ours 2"
    other.close()


def test_puts_of_one_moment_are_one_commit(tmp_path: Path, cache: CallCache) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(cache.put([entry(number)]) for number in range(300)))

    with sqlite3.connect(tmp_path / "calls.sqlite") as reader:
        reader.execute("PRAGMA data_version").fetchone()
        asyncio.run(all_at_once())
        wal_pages = (tmp_path / "calls.sqlite-wal").stat().st_size // 4096

    assert len(cache) == 300
    assert wal_pages < 150  # a commit of its own for each would write two pages or more for each


def test_a_damaged_reply_is_set_aside_counted_and_asked_again(tmp_path: Path) -> None:
    asked = prompts(f"q{number}" for number in range(10))
    script("teacher")
    with_service(tmp_path, lambda service: service.ask_many(TEACHER, asked))
    with sqlite3.connect(tmp_path / "calls.sqlite") as writer:
        writer.execute("UPDATE replies SET body = CAST('q3!' AS BLOB) WHERE body = CAST('q3' AS BLOB)")
    writer.close()
    teacher = script("teacher")
    events: list[Event] = []

    async def work(service: CallService) -> tuple[list[str], int]:
        outcomes = await service.ask_many(TEACHER, asked)
        return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)], service.cache.num_rejected

    texts, num_rejected = with_service(tmp_path, work, events)

    assert texts == [f"q{number}" for number in range(10)]
    assert [request.messages[-1]["content"] for request in teacher.requests] == ["q3"]
    assert num_rejected == 1
    with sqlite3.connect(tmp_path / "calls.sqlite") as reader:
        ((body, why),) = reader.execute("SELECT body, why FROM rejected").fetchall()
    assert (body, why) == (b"q3!", "wrong checksum")
    (warning,) = [event for event in events if event.kind == "warning"]
    assert "wrong checksum" in warning.data["message"]


def test_a_reply_of_a_form_that_nothing_reads_is_asked_again(tmp_path: Path) -> None:
    script("teacher")
    with_service(tmp_path, lambda service: service.ask(TEACHER, "hello"))
    with sqlite3.connect(tmp_path / "calls.sqlite") as writer:
        ((key, body),) = writer.execute("SELECT key, body FROM replies").fetchall()
        checksum = zlib.crc32(body, zlib.crc32(key, zlib.crc32(b"fax")))
        writer.execute("UPDATE replies SET form = 'fax', checksum = ?", (checksum,))
    writer.close()
    teacher = script("teacher")

    answer = with_service(tmp_path, lambda service: service.ask(TEACHER, "hello"))

    assert (answer.text, answer.cached, teacher.num_calls) == ("hello", False, 1)


@pytest.mark.parametrize("damage", ["no database", "torn pages"])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    first = opened_at(tmp_path)
    put(first, *(entry(number) for number in range(2000)))
    first.close()
    path = tmp_path / "calls.sqlite"
    content = bytearray(path.read_bytes())
    content[0 if damage == "no database" else 4096 :] = b"\xa5" * (
        len(content) - (0 if damage == "no database" else 4096)
    )
    path.write_bytes(content)
    events: list[Event] = []

    cache = opened_at(tmp_path, events)
    found = cache.look_up([number.to_bytes(16) for number in range(2000)])
    put(cache, entry(1, "new"))

    assert found == {}
    assert cache.look_up([entry(1).key])[entry(1).key][1] == b"new 1"
    (aside,) = tmp_path.glob("calls.damaged-*.sqlite")
    assert aside.read_bytes() == content
    assert [event.data["path"] for event in events if event.kind == "warning"] == [str(aside)]
    cache.close()


def test_a_full_disk_is_said_and_what_was_kept_stays(cache: CallCache) -> None:
    put(cache, entry(1))
    pages = cache._writer.execute("PRAGMA page_count").fetchone()[0]
    cache._writer.execute(f"PRAGMA max_page_count={pages}")

    with pytest.raises(StoreError, match="the disk is full"):
        put(cache, *(entry(number, "x" * 500) for number in range(2, 500)))

    assert len(cache) == 1
    cache._writer.execute("PRAGMA max_page_count=1000000")
    put(cache, entry(2))
    assert len(cache) == 2


def test_a_folder_that_cannot_be_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(StoreError, match="taken"):
        opened_at(tmp_path / "taken")


def test_a_file_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    opened_at(tmp_path).close()
    with sqlite3.connect(tmp_path / "calls.sqlite") as writer:
        writer.execute("PRAGMA user_version=99")
    writer.close()

    with pytest.raises(StoreError, match="has format 99"):
        opened_at(tmp_path)


_WRITER = """
import asyncio, sys
from pathlib import Path
from stillhouse.calls.cache import CallCache, Entry
from stillhouse.core.events import Bus

async def main():
    cache = CallCache(Path(sys.argv[1]), bus=Bus())
    own = sys.argv[2].encode()
    print("ready", flush=True)
    sys.stdin.readline()
    for start in range(0, 2000, 10):
        entries = [Entry(n.to_bytes(16), "text", own + b" %d" % n, b"{}") for n in range(start, start + 10)]
        await asyncio.gather(*(cache.put([entry]) for entry in entries))
    cache.close()

asyncio.run(main())
"""


def test_processes_share_a_cache_without_loss(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.communicate("go\n", timeout=60)[0] == ""
        assert writer.returncode == 0

    cache = opened_at(tmp_path)
    found = cache.look_up([number.to_bytes(16) for number in range(2000)])

    assert len(cache) == len(found) == 2000
    assert {wire.split()[0] for _, wire in found.values()} <= {b"one", b"two"}
    assert cache.num_rejected == 0
    cache.close()
