from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.tokens._segments import (
    Extra,
    Layout,
    SegmentWriter,
    Weighting,
    chained,
    token_type,
    write_manifest,
    written_segments,
)
from stillhouse.tokens.foreign import export_tokens
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.store import TokenStore, reweighted_store, store_with_extra
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


@given(lengths=lengths_lists, per_segment=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=15)
def test_documents_added_at_once_are_those_added_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], per_segment: int, seed: int
) -> None:
    one = make_store(tmp_path_factory.mktemp("one"), lengths, weighting="mask", per_segment=per_segment, seed=seed)
    folder = tmp_path_factory.mktemp("many")
    segments = []
    for number, (first, stop) in enumerate(pairwise(one.document_bounds.tolist())):
        writer = SegmentWriter(folder / "segments", number, one.layout)
        ids = [one.row_ids([document])[0] for document in range(first, stop)]
        weights = one.weights
        assert weights is not None
        writer.add_many(ids, one.tokens[number], one.lengths[first:stop], weights[number])
        segments.append(writer.close(one.segments[number].rows))
    write_manifest(folder, one.layout, segments)
    assert TokenStore(folder).fingerprint == one.fingerprint
    assert [segment.num_learnt for segment in segments] == [segment.num_learnt for segment in one.segments]


@pytest.mark.parametrize(
    ("lengths", "ids", "said"),
    [([2, 0], [3, 4], "b has no tokens"), ([2, 2], [3, 4, 5], "add up to 4"), ([1, 1], [3, 60_000], "a … b has an id")],
)
def test_documents_added_at_once_are_checked(tmp_path: Path, lengths: list[int], ids: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SegmentWriter(tmp_path / "segments", 0, layout()).add_many(["a", "b"], np.array(ids), np.array(lengths))


def test_damage_at_the_ends_of_a_file_is_found_when_the_store_is_opened(tmp_path: Path) -> None:
    make_store(tmp_path, [30, 20, 10], weighting="mask", per_segment=2)
    path = tmp_path / "segments" / "00000" / "tokens.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(StoreError, match="00000/tokens.bin` is damaged"):
        TokenStore(tmp_path)


def test_a_store_of_before_still_opens_under_its_fingerprint(tmp_path: Path) -> None:
    """Its manifest knows of no samples, no extra arrays, no weights that were set later and no contents."""
    new = make_store(tmp_path, [3, 4], weighting="mask", per_segment=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert "extras" not in manifest["layout"]
    written = chained(new.layout, new.segments)
    for segment, fingerprint in zip(manifest["segments"], written, strict=True):
        del segment["samples"], segment["contents"]
        segment["fingerprint"] = fingerprint
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": "stillhouse-tokens/1"}))
    old = TokenStore(tmp_path)
    assert old.fingerprint == written[1] != new.fingerprint
    assert TokenStore(tmp_path, fingerprint=written[0]).num_documents == 1
    linked = reweighted_store(old, np.ones(2, np.float32), tmp_path / "linked")
    assert TokenStore(tmp_path / "linked", fingerprint=written[1]).fingerprint == written[1]
    assert json.loads((tmp_path / "linked" / "manifest.json").read_text())["format"] == "stillhouse-tokens/2"
    assert TokenStore(tmp_path / "linked", fingerprint=linked.fingerprint).example_weights is not None
    write_manifest(tmp_path, new.layout, new.segments)  # as a step of today writes it over the same segments
    assert TokenStore(tmp_path).fingerprint == new.fingerprint
    for count, fingerprint in enumerate(written, start=1):
        former = TokenStore(tmp_path, fingerprint=fingerprint)
        assert (former.fingerprint, former.num_documents) == (fingerprint, count)
    assert Layout(100, 0, (1,)).digest == "81b115a16e37113f619470bb98e68d36"


def test_weights_of_examples_can_be_set_later(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", [3, 4, 5], per_segment=2, example_weights=[1, 0.5, 1])
    changed = store.with_weights({row_id(2): 0.25, row_id(0): 3})
    assert changed.example_weights is not None
    assert store.example_weights is not None
    assert changed.example_weights.tolist() == [3, 0.5, 0.25]
    assert store.example_weights.tolist() == [1, 0.5, 1]
    assert changed.document(2).weights.tolist() == [0.25] * 5
    assert changed.document(2).weight == 0.25
    assert changed.fingerprint != store.fingerprint
    assert changed.packing_fingerprint == store.packing_fingerprint
    written = reweighted_store(changed, changed.example_weights, tmp_path / "b")
    assert written.fingerprint == changed.fingerprint
    assert written.example_weights is not None
    assert written.example_weights.tolist() == [3, 0.5, 0.25]
    assert os.path.samefile(*(s.folder / "segments" / "00000" / "tokens.bin" for s in (store, written)))
    written.verify()
    again = written.with_weights({row_id(1): 2}, others=0)
    assert again.example_weights is not None
    assert again.example_weights.tolist() == [0, 2, 0]
    (tmp_path / "b" / "example_weights.bin").write_bytes(np.array([3, 0.5, 0.5], "<f4").tobytes())
    with pytest.raises(StoreError, match="example_weights.bin"):
        TokenStore(tmp_path / "b").verify()


def test_weights_that_cannot_be_set_are_refused_by_row(tmp_path: Path) -> None:
    store = make_store(tmp_path, [3, 4])
    with pytest.raises(RecipeError, match=r"1 of 2 rows .* not among the tokens, no first"):
        store.with_weights({row_id(0): 1, "no": 1})
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match=f"row {row_id(1)} is"):
            store.with_weights({row_id(1): weight})
    for weight in (-1.0, float("nan"), 1e39):
        with pytest.raises(ValueError, match=f"document b weighs {weight}".replace("+", r"\+")):
            SegmentWriter(tmp_path / "segments", 9, layout()).add("b", [3], weight=weight)
        with pytest.raises(ValueError, match="document b weighs"):
            SegmentWriter(tmp_path / "segments", 9, layout()).add_many(
                ["a", "b"], np.array([3, 4]), np.array([1, 1]), example_weights=np.array([1, weight])
            )
    with pytest.raises(RecipeError, match="the weight of document 1 is"):
        reweighted_store(store, np.array([1, np.nan], np.float32), tmp_path / "b")
    with pytest.raises(RecipeError, match="3 example weights for 2 documents"):
        reweighted_store(store, np.ones(3, np.float32), tmp_path / "b")


def test_arrays_of_any_width_stand_beside_the_tokens(tmp_path: Path) -> None:
    wide = Layout(100, 0, (1,), extras=(Extra("teacher", "<f2", 2), Extra("flag", "|u1")))
    writer = SegmentWriter(tmp_path / "a" / "segments", 0, wide)
    writer.add("a", [3, 4], extras={"teacher": np.array([[0.5, 1], [2, 3]]), "flag": [0, 1]})
    with pytest.raises(ValueError, match="extra arrays are `teacher`, `flag`"):
        writer.add("b", [3, 4], extras={"flag": [0, 1]})
    with pytest.raises(ValueError, match=r"shape \[2, 3\], expected \[2, 2\]"):
        writer.add("b", [3, 4], extras={"flag": [0, 1], "teacher": np.zeros((2, 3))})
    write_manifest(tmp_path / "a", wide, [writer.close((0, 1))])
    store = TokenStore(tmp_path / "a")
    assert store.extras["teacher"][0].tolist() == [[0.5, 1], [2, 3]]
    assert store.extras["flag"][0].dtype == np.uint8
    path = tmp_path / "a" / "segments" / "00000" / "extra-flag.bin"
    path.write_bytes(b"\0\0")
    with pytest.raises(StoreError, match="extra-flag"):
        store.verify()


def test_an_array_can_be_added_to_a_store_without_touching_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", [3, 4, 5], per_segment=2)
    doubled = Extra("doubled", "<i4")
    more = store_with_extra(store, doubled, lambda document: document.ids * 2, tmp_path / "b")
    assert [values[:, 0].tolist() for values in more.extras["doubled"]] == [
        (tokens.astype(int) * 2).tolist() for tokens in store.tokens
    ]
    assert more.fingerprint != store.fingerprint
    assert more.packing_fingerprint == store.packing_fingerprint
    more.verify()
    TokenStore(tmp_path / "a").verify()
    with pytest.raises(RecipeError, match=r"document 0: `two` has shape \[2\], not \[3, 1\]"):
        store_with_extra(store, Extra("two", "<i4"), lambda document: [1, 2], tmp_path / "c")
    with pytest.raises(RecipeError, match="cannot be called"):
        store_with_extra(more, doubled, lambda document: document.ids, tmp_path / "c")


@given(lengths=lengths_lists, cuts=st.tuples(st.integers(1, 12), st.integers(1, 12)), seed=st.integers(0, 9))
@settings(max_examples=15)
def test_a_fingerprint_does_not_tell_how_a_store_was_cut(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cuts: tuple[int, int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    examples = np.random.default_rng(seed).integers(0, 3, len(lengths)).astype(float).tolist()
    # Loss weights are drawn segment after segment from one generator, so that they are equal too.
    one, other = (
        make_store(folder / f"{cut}", lengths, weighting="mask", per_segment=cut, example_weights=examples, seed=seed)
        for cut in (cuts[0], cuts[1] + 12)
    )
    assert one.fingerprint == other.fingerprint
    loaders = [get_loader(store, seq_len=64, batch_size=2) for store in (one, other)]
    for taken, given_to in (loaders, reversed(loaders)):
        next(taken)
        given_to.load_state_dict(taken.state_dict())
        assert next(given_to).ids.tolist() == next(taken).ids.tolist()
    halved = np.full(len(lengths), 0.5, np.float32)
    weighted = [reweighted_store(store, halved, folder / f"w{number}") for number, store in enumerate((one, other))]
    assert weighted[0].fingerprint == weighted[1].fingerprint != one.fingerprint
    flag = Extra("flag", "|u1")
    more = [
        store_with_extra(store, flag, lambda document: document.ids % 7, folder / f"e{number}")
        for number, store in enumerate((one, other))
    ]
    assert more[0].fingerprint == more[1].fingerprint != one.fingerprint


def test_a_fingerprint_tells_every_part_of_a_document(tmp_path: Path) -> None:
    wide = Layout(100, 0, (1,), weighting="float", extras=(Extra("flag", "|u1"),))
    plain: dict[str, Any] = {"row_id": "a", "ids": [5, 6], "weights": [1, 1], "source": "b", "weight": 1.0}
    plain |= {"roles": [("user", 0, 1), ("tool", 1, 2)], "extras": {"flag": [1, 2]}}
    changes: list[dict[str, Any]] = [
        {}, {"row_id": "ab", "source": ""}, {"ids": [5, 7]}, {"weights": [1, 2]}, {"weight": 2.0},
        {"roles": [("user", 0, 1)]}, {"roles": [("user", 0, 1), ("tool", 0, 2)]}, {"extras": {"flag": [1, 3]}},
        {"ids": [5], "weights": [1], "extras": {"flag": [1]}},
    ]  # fmt: skip
    found = set()
    for number, change in enumerate(changes):
        for first in (False, True):
            folder = tmp_path / f"{number}{first}"
            writer = SegmentWriter(folder / "segments", 0, wide)
            for changed in (first, not first):
                writer.add(**(plain | change if changed else plain))
            write_manifest(folder, wide, [writer.close((0, 2))])
            found.add(TokenStore(folder).fingerprint)
    assert len(found) == 2 * len(changes) - 1


def test_a_fingerprint_that_a_store_never_had_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", [3, 4], per_segment=1)
    weighted = reweighted_store(store, np.full(2, 0.5, np.float32), tmp_path / "b")
    for one in (store, weighted):
        with pytest.raises(StoreError, match="never had the fingerprint nonsense"):
            TokenStore(one.folder, fingerprint="nonsense")
        assert not one.had("nonsense")
        assert one.had(one.fingerprint)
        assert one.had(store.fingerprint)
    again = TokenStore(weighted.folder, fingerprint=weighted.fingerprint)
    assert again.fingerprint == weighted.fingerprint
    assert again.example_weights is not None


def test_a_store_is_never_written_over_another(tmp_path: Path) -> None:
    """The other's files may be links to those of a third."""
    store, other = make_store(tmp_path / "a", [3, 4]), make_store(tmp_path / "b", [9, 9, 9])
    halved = np.full(2, 0.5, np.float32)
    written = reweighted_store(store, halved, tmp_path / "c")
    writes: list[Callable[[], object]] = [
        lambda: reweighted_store(store, halved, written.folder),
        lambda: store_with_extra(other, Extra("flag", "|u1"), lambda document: document.ids % 7, written.folder),
        lambda: reweighted_store(store, halved, store.folder),
    ]
    for write in writes:
        with pytest.raises(RecipeError, match=r"holds a store already\n.*new folder"):
            write()
    for one in (store, other, written):
        TokenStore(one.folder).verify()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("of the user")
    with pytest.raises(RecipeError, match=r"is not empty: it holds `mine.txt`"):
        reweighted_store(store, halved, tmp_path / "d")
    (tmp_path / "c" / "manifest.json").unlink()  # as if it had been killed before the last step
    assert reweighted_store(other, np.full(3, 0.5, np.float32), tmp_path / "c").num_documents == 3
    for one in (store, other):
        TokenStore(one.folder).verify()


@pytest.mark.parametrize("weighting", ["none", "mask"])
def test_examples_that_weigh_nothing_are_not_learnt(tmp_path: Path, weighting: Weighting) -> None:
    weights = [1, 0, 2, 0]
    store = make_store(tmp_path / "a", [9, 8, 7, 6], weighting=weighting, per_segment=3, example_weights=weights)
    later = reweighted_store(
        make_store(tmp_path / "b", [9, 8, 7, 6], weighting=weighting, per_segment=3),
        np.array(weights, np.float32),
        tmp_path / "c",
    )
    within = store.with_weights({row_id(0): 0})
    for one in (store, later, within):
        assert one.num_learnt == sum(int(np.count_nonzero(document.weights[1:])) for document in one)
    assert within.num_learnt < store.num_learnt == later.num_learnt


def test_a_fresh_process_finds_documents_by_row(tmp_path: Path) -> None:
    """Some modules of pyarrow are there only once somebody has imported them, as pytest's process has."""
    store = make_store(tmp_path / "a", [3, 4, 5])
    export_tokens(store, tmp_path / "out", "arrow")
    code = (
        "from stillhouse.tokens import import_tokens\n"
        f"store = import_tokens({str(tmp_path / 'out')!r}, 'arrow', {str(tmp_path / 'b')!r}, vocab_size=60_000, "
        "end_ids=(1,))\n"
        f"print(store.documents_of({row_id(2)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[2]\n"), done.stderr
