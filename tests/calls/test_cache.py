"""The call cache on disk: kept, shared, checked, and mended when it is damaged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.answer import Answer
from stillhouse.calls.archive import Archive
from stillhouse.calls.ask import Ask
from stillhouse.calls.cache import CallCache, Entry, Kept
from stillhouse.calls.database import whole
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.retry import TryAgain
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
    found = cache.look_up(keys)
    assert found == {number.to_bytes(16): ("text", f"reply {number}".encode()) for number in asked if number < 560}
    for key in keys[:40]:
        assert cache.look_up([key]) == ({key: found[key]} if key in found else {})
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
        ((head, tail, body),) = writer.execute("SELECT head, tail, body FROM replies").fetchall()
        checksum = zlib.crc32(body, zlib.crc32(whole(head, tail), zlib.crc32(b"fax")))
        writer.execute("INSERT INTO words VALUES (99, 'fax')")
        writer.execute("UPDATE replies SET form = 99, checksum = ?", (checksum,))
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


def test_of_two_that_meet_damage_one_moves_the_file_aside_and_both_go_on(tmp_path: Path) -> None:
    first = opened_at(tmp_path)
    put(first, *(entry(number) for number in range(2000)))
    first.close()
    one, other = opened_at(tmp_path), opened_at(tmp_path)
    with open(tmp_path / "calls.sqlite", "r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))

    other.look_up([number.to_bytes(16) for number in range(2000)])
    put(other, entry(3000))
    put(one, entry(3001))
    put(other, entry(3002))
    one.close()
    other.close()

    last = opened_at(tmp_path)
    assert len(last.look_up([number.to_bytes(16) for number in (3000, 3001, 3002)])) == 3
    last.close()
    assert len(list(tmp_path.glob("calls.damaged-*.sqlite"))) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_put_after_the_file_was_moved_is_found(tmp_path: Path, cache: CallCache, gone: bool) -> None:
    put(cache, entry(1))
    for part in tmp_path.glob("calls.sqlite*"):
        if not part.name.endswith(".lock"):
            part.rename(part.with_name(f"aside.{part.name}"))
    if not gone:
        opened_at(tmp_path).close()

    put(cache, entry(2))

    another = opened_at(tmp_path)
    assert another.look_up([entry(1).key, entry(2).key]) == {entry(2).key: ("text", b"reply 2")}
    another.close()


def test_a_dictionary_whose_page_is_damaged_holds_up_no_put(tmp_path: Path) -> None:
    first = opened_at(tmp_path)
    put(first, *map(long_entry, range(20)))
    first.close()
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as reader:
        ((page,),) = reader.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'dictionaries'").fetchall()
    cache = opened_at(tmp_path)
    other = opened_at(tmp_path)
    put(other, *map(long_entry, range(20, 40)))
    other.close()
    with open(tmp_path / "calls.sqlite", "r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xa5" * 4096)

    put(cache, long_entry(30)._replace(wire=b"another " + long_entry(30).wire))

    assert long_entry(30).key in cache.look_up([long_entry(30).key])
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


_FORMAT_1 = """
CREATE TABLE replies (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, form TEXT NOT NULL, packing INTEGER NOT NULL, body BLOB NOT NULL,
    checksum INTEGER NOT NULL, made REAL NOT NULL, seconds REAL NOT NULL, request BLOB NOT NULL
);
CREATE UNIQUE INDEX replies_by_key ON replies (key);
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, form TEXT NOT NULL, packing INTEGER NOT NULL, body BLOB NOT NULL,
    checksum INTEGER NOT NULL, made REAL NOT NULL, seconds REAL NOT NULL, request BLOB NOT NULL, why TEXT NOT NULL
);
PRAGMA user_version=1;
"""


def write_format_1(folder: Path, number: int) -> dict[bytes, bytes]:
    """A file as version 1 wrote it; returns the wire form by key."""
    wires = {}
    with closing(sqlite3.connect(folder / "calls.sqlite")) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.executescript(_FORMAT_1)
        for place in range(number):
            key = hashlib.blake2b(b"%d" % place, digest_size=16).digest()
            reply = {
                "choices": [{"message": {"content": f"reply {place} " * (100 if place % 3 == 0 else 1)}}],
                "usage": {"prompt_tokens": place, "completion_tokens": 7},
            }
            wire = wires[key] = json.dumps(reply).encode()
            request = b'{"by":{"model":"openai/x"},"messages":[{"content":"%s","role":"user"}]}' % (
                b"q%d" % place * (400 if place % 2 else 1)
            )
            packing, body = (1, zlib.compress(wire, 1)) if len(wire) > 1024 else (0, wire)
            packed = zlib.compress(request, 1) if len(request) > 1024 else request
            checksum = zlib.crc32(body, zlib.crc32(key, zlib.crc32(b"openai.chat")))
            row = (key, "openai.chat", packing, body, checksum, 1000.5 + place, 0.25, packed)
            writer.execute(
                "INSERT INTO replies (key, form, packing, body, checksum, made, seconds, request) "
                "VALUES (?,?,?,?,?,?,?,?)",
                row,
            )
            if place == 0:
                writer.execute(
                    "INSERT INTO rejected (key, form, packing, body, checksum, made, seconds, request, why) "
                    "VALUES (?,?,?,?,?,?,?,?,'wrong checksum')",
                    row,
                )
        writer.commit()
    return wires


def test_a_file_of_format_1_is_upgraded_and_no_reply_lost(tmp_path: Path) -> None:
    wires = write_format_1(tmp_path, 700)
    events: list[Event] = []

    cache = opened_at(tmp_path, events)

    assert cache.look_up(list(wires)) == {key: ("openai.chat", wire) for key, wire in wires.items()}
    assert cache.requests(list(wires)[:2])[list(wires)[1]].count(b"q1") == 400
    assert ["700 replies" in event.data["message"] for event in events] == [True]
    cache.close()
    with Archive(tmp_path) as archive:
        calls = list(archive.calls())
    assert [(call.model, call.made, call.seconds) for call in calls[:1]] == [("openai/x", 1000.5, 0.25)]
    assert [call.usage.prompt_tokens for call in calls] == list(range(700))
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as reader:
        assert reader.execute("SELECT count(*), max(why) FROM rejected").fetchall() == [(1, "wrong checksum")]
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


_UPGRADER = """
import sys
from pathlib import Path
from stillhouse.calls.cache import CallCache
from stillhouse.core.events import Bus
print("ready", flush=True)
CallCache(Path(sys.argv[1]), bus=Bus()).close()
print("done", flush=True)
"""


def test_an_upgrade_that_is_killed_is_made_again_and_two_at_once_are_one(tmp_path: Path) -> None:
    wires = write_format_1(tmp_path, 3000)

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-c", _UPGRADER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08):
        child = start()
        time.sleep(delay)
        child.kill()
        child.communicate()
    both = [start(), start()]
    assert [child.communicate(timeout=120)[0] for child in both] == ["done\n", "done\n"]

    cache = opened_at(tmp_path)
    assert {key: wire for key, (_, wire) in cache.look_up(list(wires)).items()} == wires
    assert len(cache) == 3000
    cache.close()


def long_entry(number: int) -> Entry:
    """A call as of a template."""
    request = b'{"by":{"model":"m"},"messages":[{"content":"%s %d","role":"user"}]}' % (b"the same words " * 20, number)
    wire = b'{"id":"%d","wrapping":"%s","text":"reply %d"}' % (number, b"always this " * 20, number)
    return Entry(hashlib.blake2b(request, digest_size=16).digest(), "openai.chat", wire, request, 0.1, "m")


def test_calls_of_one_template_share_a_dictionary_also_in_a_later_session(tmp_path: Path) -> None:
    first = opened_at(tmp_path)
    put(first, *map(long_entry, range(50)))
    first.close()
    second = opened_at(tmp_path)
    put(second, *map(long_entry, range(50, 100)))

    entries = [long_entry(number) for number in range(100)]
    found = second.look_up([entry.key for entry in entries])

    assert found == {entry.key: ("openai.chat", entry.wire) for entry in entries}
    assert second.requests([entry.key for entry in entries]) == {entry.key: entry.request for entry in entries}
    second.close()
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as reader:
        ((lengths, families),) = reader.execute(
            "SELECT (SELECT sum(length(body) + length(request)) FROM replies), (SELECT count(*) FROM dictionaries)"
        ).fetchall()
    assert lengths < sum(len(entry.wire) + len(entry.request) for entry in entries) / 5
    assert families == 3  # one for requests, one for replies, and the empty one that stands at the beginning


def test_a_damaged_dictionary_costs_calls_and_gives_no_wrong_reply(tmp_path: Path) -> None:
    cache = opened_at(tmp_path)
    put(cache, *map(long_entry, range(20)))
    cache.close()
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as writer:
        writer.execute("UPDATE dictionaries SET body = CAST(replace(CAST(body AS TEXT), 'a', 'e') AS BLOB)")
        writer.commit()
    again = opened_at(tmp_path)

    found = again.look_up([long_entry(number).key for number in range(20)])

    assert found == {long_entry(0).key: ("openai.chat", long_entry(0).wire)}  # kept before there was a dictionary
    assert again.num_rejected == 19
    put(again, *map(long_entry, range(20)))
    assert len(again.look_up([long_entry(number).key for number in range(20)])) == 20
    again.close()


@given(
    wires=st.lists(st.binary(max_size=600), min_size=1, max_size=12),
    shared=st.binary(max_size=400),
    form=st.sampled_from(["text", "openai.chat", "reply"]),
)
@settings(max_examples=40, deadline=None)
def test_any_bytes_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, wires: list[bytes], shared: bytes, form: str
) -> None:
    cache = opened_at(tmp_path_factory.mktemp("calls"))
    entries = [
        Entry(number.to_bytes(16), form, shared + wire, b"{" + wire + shared) for number, wire in enumerate(wires)
    ]
    put(cache, *entries)
    keys = [entry.key for entry in entries]
    assert cache.look_up(keys) == {entry.key: (form, entry.wire) for entry in entries}
    assert cache.requests(keys) == {entry.key: entry.request for entry in entries}
    cache.close()


def test_of_two_replies_under_one_key_in_one_commit_the_first_stands(cache: CallCache) -> None:
    standing = put(cache, entry(1, "first"), entry(2), entry(1, "second"))
    assert standing == {entry(1).key: ("text", b"first 1")}
    assert len(cache) == 2
    assert cache.look_up([entry(1).key]) == standing


def test_keys_that_begin_alike_are_told_apart(cache: CallCache) -> None:
    """The index holds the first half of a key alone."""
    one, other, third = (Entry(b"same8888" + bytes([n] * 8), "text", b"reply %d" % n, b"{}") for n in range(3))
    put(cache, one, other)

    found = cache.look_up([one.key, other.key, third.key])

    assert found == {one.key: ("text", b"reply 0"), other.key: ("text", b"reply 1")}
    assert cache.look_up([third.key]) == {}


def test_a_forgotten_call_is_made_again_and_its_reply_set_aside(tmp_path: Path) -> None:
    teacher = script("teacher", lambda messages, schema, sample: "fine")
    with_service(tmp_path, lambda service: service.ask(TEACHER, "hello"))

    async def forget(service: CallService) -> tuple[int, int]:
        answer = await service.ask(TEACHER, "hello")
        key = bytes.fromhex(answer.key)
        return service.cache.forget([key]), service.cache.forget([key])

    assert with_service(tmp_path, forget) == (1, 0)
    answer = with_service(tmp_path, lambda service: service.ask(TEACHER, "hello"))

    assert (answer.cached, teacher.num_calls) == (False, 2)
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as reader:
        assert reader.execute("SELECT why FROM rejected").fetchall() == [("asked again",)]


def test_failed_attempts_stand_beside_the_answered_ones(tmp_path: Path) -> None:
    failures = {0: TryAgain("server", "boom"), 1: TryAgain("garbled", "what?")}
    script("teacher", lambda messages, schema, sample: "fine", failures=failures, latency=0.0)
    answer = with_service(tmp_path, lambda service: service.ask(TEACHER, "hello"))
    with Archive(tmp_path) as archive:
        troubles = list(archive.troubles())
    assert [(trouble.cause, trouble.message) for trouble in troubles] == [("garbled", "what?"), ("server", "boom")]
    assert {trouble.key for trouble in troubles} == {answer.key}
