from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stillhouse.tokens import _plan_files
from stillhouse.tokens._epochs import SourceRows
from stillhouse.tokens._packing import Plan, make_plan
from stillhouse.tokens._plan_files import _MOST_CACHED, PlanKey, kept_plan, read_plan, write_plan
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore, reweighted_store
from tests.tokens.stores import append_documents, make_store

METHODS: list[Method] = ["best_fit", "windows", "stream", "concat", "one"]
ROW = 16


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    lengths = np.random.default_rng(0).integers(1, 40, 60).tolist()
    return make_store(tmp_path / "store", lengths, per_segment=25)


def plan_key(method: Method, seq_len: int = ROW, key: int = 3) -> PlanKey:
    return PlanKey(Packing(method, too_long="split", window=20), seq_len, key)


def cached(store: TokenStore) -> list[Path]:
    return sorted((store.folder / "plans").glob("*"))


def same(one: Plan, other: Plan) -> bool:
    rows = np.arange(one.num_rows)
    spans = zip(one.spans(rows), other.spans(rows), strict=True)
    found = [one.rows_of(document) == other.rows_of(document) for document in range(one.report.num_documents)]
    return one.report == other.report and all((a == b).all() for a, b in spans) and all(found)


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_from_a_file_is_the_plan_that_was_made(store: TokenStore, method: Method) -> None:
    key = plan_key(method)
    made = kept_plan(store, key, fewest=0)
    [path] = cached(store)
    before = path.read_bytes()
    read = read_plan(path, store, key)
    assert read is not None
    assert same(read, made)
    assert same(read, make_plan(key.packing, store.lengths, ROW, 3))
    assert same(kept_plan(TokenStore(store.folder), key, fewest=0), made)
    assert path.read_bytes() == before


def test_a_plan_is_found_for_what_it_was_made_of_and_nothing_else(store: TokenStore, tmp_path: Path) -> None:
    names = {
        key.file_name(store) for key in (plan_key("best_fit"), plan_key("concat"), plan_key("best_fit", seq_len=8))
    }
    assert len(names) == 3
    assert plan_key("best_fit", key=9).file_name(store) in names  # which documents share a row is no matter of the key
    assert plan_key("stream").file_name(store) != plan_key("stream", key=9).file_name(store)
    weighted = reweighted_store(store, np.full(60, 0.5, np.float32), tmp_path / "weighted")
    assert plan_key("best_fit").file_name(weighted) in names
    append_documents(store.folder, [5])
    assert plan_key("best_fit").file_name(TokenStore(store.folder)) not in names


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "other header", "no JSON"])
def test_a_damaged_file_is_made_again(store: TokenStore, damage: str) -> None:
    key = plan_key("best_fit")
    made = kept_plan(store, key, fewest=0)
    [path] = cached(store)
    whole = path.read_bytes()
    line = whole.index(b"\n")
    path.write_bytes(
        {
            "flipped": whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:],
            "cut": whole[:-64],
            "longer": whole + b"\0" * 64,
            "empty": b"",
            "other header": whole[:line].replace(b"plan/1", b"plan/2") + whole[line:],
            "no JSON": b"{" * line + whole[line:],
        }[damage]
    )
    assert read_plan(path, store, key) is None
    assert same(kept_plan(store, key, fewest=0), made)
    assert path.read_bytes() == whole


def test_damage_anywhere_in_a_large_plan_is_found(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan_files, "_BLOCK", 8)
    key = plan_key("best_fit")
    kept_plan(store, key, fewest=0)
    [path] = cached(store)
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    assert len(whole) - begin > 20 * 64
    assert read_plan(path, store, key) is not None
    for place in range(begin, len(whole), 64):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert read_plan(path, store, key) is None


def test_where_nothing_can_be_written_the_plan_lives_in_memory(store: TokenStore) -> None:
    (store.folder / "plans").write_text("in the way")  # holds for root too, whom a read-only folder does not stop
    plan = kept_plan(store, plan_key("best_fit"), fewest=0)
    assert same(plan, make_plan(plan_key("best_fit").packing, store.lengths, ROW))


def test_a_small_store_keeps_no_plan_and_old_ones_are_deleted(store: TokenStore) -> None:
    kept_plan(store, plan_key("best_fit"))
    assert cached(store) == []
    own = store.folder / "plans" / plan_key("one").file_name(store)
    write_plan(own, make_plan(plan_key("one").packing, store.lengths, ROW))
    for number in range(_MOST_CACHED + 3):
        kept_plan(store, plan_key("stream", key=number), fewest=0)
    names = {path.name for path in cached(store)}
    assert len(names) == _MOST_CACHED + 1
    assert own.name in names  # it belongs to the store
    assert f"cached-{plan_key('stream', key=_MOST_CACHED + 2).file_name(store)}" in names


def test_a_plan_that_belongs_to_the_store_is_used(store: TokenStore) -> None:
    key = plan_key("best_fit")
    path = store.folder / "plans" / key.file_name(store)
    write_plan(path, make_plan(Packing("one", too_long="split"), store.lengths, ROW))  # to tell it from a fresh one
    assert kept_plan(store, key, fewest=0).num_rows > make_plan(key.packing, store.lengths, ROW).num_rows
    assert not list(path.parent.glob("cached-*"))


@pytest.mark.parametrize("method", ["windows", "stream"])
def test_resuming_packs_no_epochs_before(store: TokenStore, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillhouse.tokens import _epochs

    packing = Packing(method, too_long="split", window=20)
    source = SourceRows("a", store, packing, ROW, seed=1)
    source.epoch_start(7)
    ends = source.epoch_ends()
    assert ends is not None
    again = SourceRows("a", store, packing, ROW, seed=1)
    again.recall_epoch_ends(ends)
    asked: list[int] = []

    def watched(store: TokenStore, key: PlanKey, row_id: object) -> Plan:
        asked.append(key.key)
        return kept_plan(store, key)

    monkeypatch.setattr(_epochs, "kept_plan", watched)
    draws = np.array([ends[5] + 2])
    [epoch] = again.epochs_of(draws).tolist()
    again.rows(epoch, draws - again.epoch_start(epoch))
    again.plan(epoch)
    assert epoch == 6
    assert len(asked) == 1


def test_the_times_of_files_say_which_were_used_last(store: TokenStore) -> None:
    key = plan_key("best_fit")
    kept_plan(store, key, fewest=0)
    [path] = cached(store)
    os.utime(path, (1, 1))
    kept_plan(store, key, fewest=0)
    assert path.stat().st_mtime > 1
