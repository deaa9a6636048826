"""Files of other servers: fetched whole, counted by content, kept within bounds, and never taken for what they were."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core import fetched
from stillhouse.core.errors import RecipeError
from stillhouse.core.fetched import FetchedFiles, keep_fetched
from stillhouse.core.session import Session
from stillhouse.rows._import import source
from stillhouse.rows.import_ import Import

fsspec = pytest.importorskip("fsspec")
ROWS = [{"text": "one"}, {"text": "two"}, {"text": "three"}]


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FetchedFiles:
    """The user's own folder of fetched files, moved to a place of this test."""
    monkeypatch.setattr(fetched.FILES, "folder", tmp_path / "fetched")
    monkeypatch.setattr(fetched.FILES, "_found", {})
    monkeypatch.setattr(fetched.FILES, "max_bytes", 10**6)
    return fetched.FILES


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read(path: Any) -> list[Any]:
    return [row.value for row in source(Import(path=path, require=()))]


def kept(files: FetchedFiles) -> list[int]:
    return sorted(path.stat().st_size for path in files.folder.iterdir() if not path.suffix)


def test_files_elsewhere_are_read_and_count_by_content(
    memory: Any, files: FetchedFiles, tmp_path: Path, session: Session
) -> None:
    del files
    (tmp_path / "local.jsonl").write_bytes(lines(ROWS))
    memory.pipe("/web/a.jsonl", lines(ROWS))
    there, here = (Import(path=path, require=()) for path in ("memory://web/a.jsonl", tmp_path / "local.jsonl"))
    assert there.recipe_key == here.recipe_key
    rows = session.run(there)
    assert [row["text"] for row in rows] == ["one", "two", "three"]
    assert rows.record["facts"]["files"] == [{"file": "memory://web/a.jsonl", "rows": 3}]


def test_patterns_match_elsewhere_too(memory: Any, files: FetchedFiles) -> None:
    del files
    memory.pipe("/web/b.jsonl", lines(ROWS[1:]))
    memory.pipe("/web/a.jsonl", lines(ROWS[:1]))
    memory.pipe("/web/note.txt", b"x")
    assert read("memory://web/*.jsonl") == ROWS
    assert read("jsonl://memory://web/[ab].*") == ROWS
    with pytest.raises(RecipeError, match=r"(?s)nothing matches `memory://web/\*.csv`.*a\.jsonl, b\.jsonl, note\.txt"):
        read("memory://web/*.csv")
    with pytest.raises(RecipeError, match="there is no file `memory://web/c.jsonl`"):
        read("memory://web/c.jsonl")


def test_a_file_is_asked_for_once_in_a_process_and_fetched_once_ever(memory: Any, files: FetchedFiles) -> None:
    memory.pipe("/a.jsonl", lines(ROWS))
    found = files.find("memory://a.jsonl")
    memory.pipe("/a.jsonl", lines(ROWS[:1]))
    assert files.find("memory://a.jsonl") == found  # a plan must not see it change
    again = FetchedFiles(files.folder)  # another process
    assert again.find("memory://a.jsonl").digest != found.digest
    times = {path: path.stat().st_ino for path in files.folder.iterdir()}
    FetchedFiles(files.folder).find("memory://a.jsonl")
    assert {path: path.stat().st_ino for path in files.folder.iterdir()} == times


def test_no_more_is_kept_than_allowed_and_what_went_is_fetched_again(memory: Any, files: FetchedFiles) -> None:
    files.max_bytes = 250
    for number in range(5):
        memory.pipe(f"/{number}.jsonl", (f'{{"text": "{number}"}}' + " " * 100)[:99].encode() + b"\n")
    assert [row["text"] for row in read("memory://*.jsonl")] == list("01234")
    assert kept(files) == [100, 100]
    memory.pipe("/large.jsonl", b" " * 400)
    files.find("memory://large.jsonl")
    assert kept(files) == [400]  # what was fetched last stays in any case
    found = files.find("memory://3.jsonl")
    assert files.local(found).read_bytes().startswith(b'{"text": "3"}')


def test_a_file_that_is_another_when_it_is_fetched_again_is_refused(memory: Any, files: FetchedFiles) -> None:
    memory.pipe("/a.jsonl", lines(ROWS))
    step = Import(path="memory://a.jsonl", require=())
    assert step.recipe_key
    files.local(files.find("memory://a.jsonl")).unlink()
    memory.pipe("/a.jsonl", lines(ROWS[:1]))
    with pytest.raises(
        RecipeError, match=r"memory://a\.jsonl: the file was changed since the run began: it had 50 bytes"
    ):
        list(source(step))


@pytest.mark.parametrize("damage", [b"0" * 50, b"", b"0" * 51])
def test_a_damaged_file_is_not_believed_but_fetched_again(memory: Any, files: FetchedFiles, damage: bytes) -> None:
    memory.pipe("/a.jsonl", lines(ROWS))
    path = files.local(files.find("memory://a.jsonl"))
    path.write_bytes(damage)
    assert read("memory://a.jsonl") == ROWS
    path.write_bytes(damage)
    other = FetchedFiles(files.folder)  # another process
    assert other.local(other.find("memory://a.jsonl")).read_bytes() == lines(ROWS)


def test_a_file_is_not_read_for_its_digest_again_while_nothing_tells_that_it_changed(
    memory: Any, files: FetchedFiles
) -> None:
    memory.pipe("/a.jsonl", lines(ROWS))
    path = files.local(files.find("memory://a.jsonl"))
    stat = path.stat()
    path.write_bytes(b"0" * 50)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing tells that it is another
    assert files.local(files.find("memory://a.jsonl")).read_bytes() == b"0" * 50


def test_the_one_used_last_stays_when_room_is_made(memory: Any, files: FetchedFiles) -> None:
    files.max_bytes = 250
    found = []
    for number in range(2):
        memory.pipe(f"/{number}", b" " * 100)
        found.append(files.find(f"memory://{number}"))
    files.local(found[0])
    memory.pipe("/2", b" " * 100)
    files.find("memory://2")
    assert [files._path(one.url, one.marks).exists() for one in found] == [True, False]


def test_what_killed_fetches_left_goes_after_a_day(memory: Any, files: FetchedFiles) -> None:
    memory.pipe("/a.jsonl", lines(ROWS))
    files.folder.mkdir()
    old, new = files.folder / "a.1.part", files.folder / "b.1.part"
    for path, age in ((old, 2), (new, 0)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age * 86_400,) * 2)
    files.find("memory://a.jsonl")
    assert (old.exists(), new.exists()) == (False, True)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        del format, args


def test_a_web_server_gives_files(tmp_path: Path, files: FetchedFiles) -> None:
    del files
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.jsonl").write_bytes(lines(ROWS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert read(f"{url}/a.jsonl?download=true") == ROWS
        with pytest.raises(RecipeError, match="there is no file"):
            read(f"{url}/b.jsonl")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(RecipeError, match="Check the address, the network and the keys"):
        read(f"{url}/c.jsonl")


def test_a_driver_that_is_missing_is_told_by_its_package(files: FetchedFiles) -> None:
    del files
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs"), ("oss", "ossfs")):
        with pytest.raises(RecipeError, match=rf"(?s)driver of fsspec for `{scheme}://`.*pip install {package}`"):
            read(f"{scheme}://bucket/a.jsonl")
    with pytest.raises(RecipeError, match="nobody knows the scheme `s33://`"):
        read("s33://bucket/a.jsonl")


def test_the_folder_of_fetched_files_can_be_moved(files: FetchedFiles, tmp_path: Path) -> None:
    keep_fetched(tmp_path / "other", max_bytes=5)
    assert (files.folder, files.max_bytes) == (tmp_path / "other", 5)
    with pytest.raises(RecipeError, match="max_bytes"):
        keep_fetched(tmp_path, max_bytes=0)
