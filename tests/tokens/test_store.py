from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import StoreError
from stillhouse.tokens._segments import Layout, SegmentWriter, Weighting, token_type, write_manifest, written_segments
from stillhouse.tokens.store import TokenStore
from tests.tokens.stores import append_documents, ids_of, layout, make_store, row_id

lengths_lists = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@pytest.mark.parametrize("weighting", ["none", "mask", "float"])
@given(lengths=lengths_lists, per_segment=st.integers(1, 12))
def test_documents_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, weighting: Weighting, lengths: list[int], per_segment: int
) -> None:
    store = make_store(tmp_path_factory.mktemp("store"), lengths, weighting=weighting, per_segment=per_segment, seed=5)
    assert store.num_documents == len(lengths)
    assert store.num_tokens == sum(lengths)
    assert store.lengths.tolist() == lengths
    learnt = 0
    for number, document in enumerate(store):
        assert document.ids.tolist() == ids_of(number, lengths[number])
        assert document.row_id == row_id(number)
        assert store.documents_of(row_id(number)) == [number]
        assert len(document.weights) == lengths[number]
        learnt += int(np.count_nonzero(document.weights[1:]))
    assert store.num_learnt == learnt
    assert store.row_ids(range(len(lengths))) == [row_id(number) for number in range(len(lengths))]


def test_sources_weights_and_roles_come_back(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", 0, layout("float"))
    writer.add("a", [5, 6, 7], [0, 0.5, 2.0], source="chat", weight=0.5, roles=[("user", 0, 1), ("assistant", 1, 3)])
    write_manifest(tmp_path, layout("float"), [writer.close((0, 1))])
    document = TokenStore(tmp_path).document(0)
    assert document.weights.tolist() == [0, 0.25, 1.0]
    assert document.source == "chat"
    assert document.roles == (("user", 0, 1), ("assistant", 1, 3))


@given(first=lengths_lists, more=lengths_lists)
def test_appended_rows_move_no_old_ones_and_the_former_store_can_still_be_opened(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], more: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    old = make_store(folder, first)
    append_documents(folder, more)
    grown = TokenStore(folder)
    assert grown.fingerprint != old.fingerprint
    assert grown.lengths.tolist() == first + more
    assert grown.row_ids(range(len(first))) == old.row_ids(range(len(first)))
    former = TokenStore(folder, fingerprint=old.fingerprint)
    assert former.fingerprint == old.fingerprint
    assert former.lengths.tolist() == first


@pytest.mark.parametrize("name", ["tokens.bin", "weights.bin", "docs.arrow"])
def test_a_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path, [30, 20, 10], weighting="mask", per_segment=2)
    store.verify()
    path = tmp_path / "segments" / "00001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=f"00001/{name}"):
        TokenStore(tmp_path).verify()


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_segment_that_lost_bytes_is_found_when_it_is_opened(tmp_path: Path, change: str) -> None:
    make_store(tmp_path, [30, 20, 10], per_segment=2)
    path = tmp_path / "segments" / "00000" / "tokens.bin"
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.unlink()
    with pytest.raises(StoreError, match="98 bytes, expected 100" if change == "cut" else "is missing"):
        TokenStore(tmp_path)


def test_a_writer_that_stops_leaves_no_segment_and_the_next_one_begins_again(tmp_path: Path) -> None:
    segments = tmp_path / "segments"
    stopped = SegmentWriter(segments, 0, layout())
    stopped.add("a", [3, 4, 5])
    assert written_segments(segments) == []
    again = SegmentWriter(segments, 0, layout())
    again.add("a", [3, 4])
    again.close((0, 1))
    assert [segment.num_tokens for segment in written_segments(segments)] == [2]


def test_a_store_without_manifest_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished token store"):
        TokenStore(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, [3])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": "stillhouse-tokens/9"}))
    with pytest.raises(StoreError, match="stillhouse-tokens/9"):
        TokenStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        TokenStore(tmp_path)


def test_ids_are_as_narrow_as_the_vocabulary_allows() -> None:
    assert token_type(65_536) == np.dtype("<u2")
    assert token_type(65_537) == np.dtype("<u4")


def test_wide_ids_come_back(tmp_path: Path) -> None:
    wide = Layout(vocab_size=200_000, pad_id=0, end_ids=(1,))
    writer = SegmentWriter(tmp_path / "segments", 0, wide)
    writer.add("a", [199_999, 65_536, 2])
    write_manifest(tmp_path, wide, [writer.close((0, 1))])
    assert TokenStore(tmp_path).document(0).ids.tolist() == [199_999, 65_536, 2]


def test_fingerprints_depend_on_content_and_layout_alone(tmp_path: Path) -> None:
    one = make_store(tmp_path / "one", [4, 5], per_segment=1)
    same = make_store(tmp_path / "same", [4, 5], per_segment=1)
    other = make_store(tmp_path / "other", [4, 6], per_segment=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    digests = [Layout(100, 0, (1,), template=name).digest for name in ("a", "b")]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("ids", "weights", "said"),
    [
        ([], None, "no tokens"),
        ([60_000], [1], "outside the vocabulary"),
        ([-1], [1], "outside the vocabulary"),
        ([3, 4], [1], "as many loss weights"),
        ([3, 4], None, "as many loss weights"),
        ([3, 4], [1, 0.5], "0 and 1 only"),
    ],
)
def test_documents_that_do_not_fit_the_layout_are_refused(
    tmp_path: Path, ids: list[int], weights: list[float] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        SegmentWriter(tmp_path / "segments", 0, layout("mask")).add("a", ids, weights)
