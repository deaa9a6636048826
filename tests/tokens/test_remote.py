"""Stores elsewhere: `memory://` stands for a server, its files are not on this machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.core.fetched import FILES, FetchedFiles
from stillhouse.tokens._remote import open_remote
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.store import TokenStore
from stillhouse.tokens.window_shuffle import WindowShuffle
from tests.tokens.stores import append_documents, make_store

SEQ = 16


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "fetched"
    monkeypatch.setattr(FILES, "folder", folder)
    yield folder
    fsspec.filesystem("memory").store.clear()


def upload(folder: Path, name: str = "store") -> str:
    system = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe(f"/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"memory://{name}"


def local_store(folder: Path, count: int = 96, per_segment: int = 12) -> TokenStore:
    return make_store(folder, [1 + 7 * n % SEQ for n in range(count)], per_segment=per_segment, weighting="mask")


def token_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.suffix]


def size_of(folder: Path) -> int:
    """Bytes of the files in it; some may be deleted meanwhile."""
    found = 0
    for path in token_files(folder):
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


@pytest.mark.parametrize("shuffle", [True, False, WindowShuffle(window=8, blocks=2)])
def test_a_store_elsewhere_hands_out_what_it_would_here(tmp_path: Path, shuffle: bool | WindowShuffle) -> None:
    store = local_store(tmp_path / "s")
    address = upload(store.folder)
    options = {"seq_len": SEQ, "batch_size": 4, "packing": Packing("concat"), "shuffle": shuffle}
    ours, theirs = get_loader(store, **options), get_loader(address, **options)  # type: ignore[arg-type]
    assert theirs.fingerprint == ours.fingerprint
    with theirs:
        for _ in range(2 * ours.rows_per_epoch // 4):
            left, right = next(ours), next(theirs)
            assert np.array_equal(left.ids, right.ids)
            assert np.array_equal(left.weights, right.weights)
            assert left.row_ids == right.row_ids
        assert theirs.account() == ours.account()
        state = theirs.state_dict()
    assert np.array_equal(next(get_loader(address, **options, state=state)).ids, next(ours).ids)  # type: ignore[arg-type]


def test_only_the_segments_that_are_read_are_fetched(tmp_path: Path, here: Path) -> None:
    address = upload(local_store(tmp_path / "s").folder)
    store = open_remote(address)
    before = len(token_files(here))
    assert store.document(30).row_id == store.row_ids([30])[0]
    assert len(token_files(here)) == before + 2  # tokens and weights of its segment


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, here: Path) -> None:
    local = local_store(tmp_path / "s")
    address = upload(local.folder)
    open_remote(address)
    for path in token_files(here):
        path.unlink()
    largest = 3 * max(segment.num_tokens for segment in local.segments)  # bytes of ids and weights
    files = FetchedFiles(here, 3 * largest)
    options = {"seq_len": SEQ, "batch_size": 2, "packing": Packing("concat"), "seed": 1}
    order = WindowShuffle(window=4, blocks=2)
    loader = get_loader(open_remote(address, files=files), **options, shuffle=order, prefetch=2)  # type: ignore[arg-type]
    ours = get_loader(local, **options, shuffle=order)  # type: ignore[arg-type]
    with loader:
        for _ in range(2 * ours.rows_per_epoch // 2):
            assert np.array_equal(next(loader).ids, next(ours).ids)
            assert size_of(here) <= 4 * largest  # one more may be on its way


def test_what_would_be_fetched_again_and_again_is_refused_with_a_way_out(tmp_path: Path, here: Path) -> None:
    local = local_store(tmp_path / "s")
    store = open_remote(upload(local.folder), files=FetchedFiles(here, 700))
    with pytest.raises(RecipeError, match=r"(?s)`data` is elsewhere, and shuffled as a whole.*shuffle=\"window\""):
        get_loader(store, seq_len=SEQ, batch_size=2, packing=Packing("concat"))
    with pytest.raises(RecipeError, match=r"(?s)a window of its rows needs.*smaller `WindowShuffle"):
        get_loader(store, seq_len=SEQ, batch_size=2, packing=Packing("concat"), shuffle="window")
    order = WindowShuffle(window=4, blocks=1)
    assert next(get_loader(store, seq_len=SEQ, batch_size=2, packing=Packing("concat"), shuffle=order)).step == 0


def test_a_damaged_segment_is_found_when_it_is_fetched(tmp_path: Path) -> None:
    address = upload(local_store(tmp_path / "s").folder)
    system = fsspec.filesystem("memory")
    content = bytearray(system.cat("/store/segments/00003/tokens.bin"))
    content[5] ^= 1
    system.pipe("/store/segments/00003/tokens.bin", bytes(content))
    with pytest.raises(StoreError, match="00003/tokens.bin` is damaged"):
        open_remote(address).verify()


@pytest.mark.parametrize("damage", ["zeros", "cut"])
def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path: Path, here: Path, damage: str) -> None:
    local = local_store(tmp_path / "s", count=24)
    address = upload(local.folder)
    open_remote(address).verify()
    for path in token_files(here):
        path.write_bytes(bytes(path.stat().st_size) if damage == "zeros" else b"")
    again = open_remote(address)
    for ours, theirs in zip(local.tokens, again.tokens, strict=True):
        assert np.array_equal(ours, theirs)


def test_the_note_on_packing_is_that_of_the_store_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = local_store(tmp_path / "s", count=4)
    (local.folder / "packing.json").write_text("{}")
    address = upload(local.folder)
    folder = open_remote(address).folder
    assert (folder / "packing.json").read_text() == "{}"
    read = MemoryFileSystem.open

    def refuse(self: MemoryFileSystem, path: str, *args: Any, **more: Any) -> Any:
        if path.endswith("packing.json"):
            raise OSError("503 slow down")
        return read(self, path, *args, **more)

    monkeypatch.setattr(MemoryFileSystem, "open", refuse)
    with pytest.raises(RecipeError, match=r"packing.json` cannot be read: 503"):
        open_remote(address)
    monkeypatch.undo()
    fsspec.filesystem("memory").rm("/store/packing.json")
    assert not (open_remote(address).folder / "packing.json").exists()


def test_what_killed_openings_left_goes_after_a_day(tmp_path: Path) -> None:
    address = upload(local_store(tmp_path / "s", count=4).folder)
    folder = open_remote(address).folder
    for name, age in (("fetching-old", 2), ("fetching-new", 0)):
        (folder / name / "0").mkdir(parents=True)
        os.utime(folder / name, (time.time() - age * 86_400,) * 2)
    open_remote(address)
    assert [path.name for path in folder.glob("fetching-*")] == ["fetching-new"]


def test_a_store_that_grew_elsewhere_is_opened_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    local = local_store(tmp_path / "s")
    former = open_remote(upload(local.folder)).fingerprint
    append_documents(local.folder, [5, 6], weighting="mask")
    address = upload(local.folder)
    assert open_remote(address).num_documents == 98
    again = open_remote(address, fingerprint=former)
    assert (again.num_documents, again.fingerprint) == (96, former)


def test_an_address_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="memory://nothing/manifest.json"):
        get_loader(Mixture({"a": "memory://nothing"}), seq_len=SEQ, batch_size=1)


def test_several_readers_share_what_is_fetched(tmp_path: Path, here: Path) -> None:
    local = local_store(tmp_path / "s")
    address = f"file://{local.folder}"  # files of `memory://` have one place of reading for all
    found: list[bytes] = []

    def read() -> None:
        store = open_remote(address)
        found.append(b"".join(np.asarray(tokens).tobytes() for tokens in store.tokens))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"".join(np.asarray(tokens).tobytes() for tokens in local.tokens)] * 4
    assert not list(here.glob("*.part"))
