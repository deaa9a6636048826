from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens import _course
from stillhouse.tokens._permutation import key_of
from stillhouse.tokens._segments import Extra
from stillhouse.tokens.batch import IGNORED, Batch
from stillhouse.tokens.loader import Loader, SeenRow, Settings, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore, store_with_extra
from stillhouse.tokens.torch_dataset import tensors
from tests.tokens.stores import PAD, append_documents, ids_of, layout, make_store, row_id

SEQ = 24
METHODS: list[Method] = ["best_fit", "windows", "stream", "concat", "one"]
methods = st.sampled_from(METHODS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few steps, so that a short test crosses their borders."""
    monkeypatch.setattr(_course, "_BLOCK_ROWS", 20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    """Three sources of different sizes; one with weights, one with weighted examples."""
    folder = tmp_path_factory.mktemp("stores")
    random = np.random.default_rng(0)

    def draw(count: int) -> list[int]:
        return [int(length) for length in random.integers(1, SEQ + 1, count)]

    weights = random.choice([0.5, 1.0, 2.0], 40).tolist()
    return {
        "web": make_store(folder / "web", draw(90), name="web", per_segment=25),
        "chat": make_store(folder / "chat", draw(40), name="chat", weighting="mask", example_weights=weights, seed=1),
        "code": make_store(folder / "code", draw(15), name="code"),
    }


def mixed(
    stores: dict[str, TokenStore],
    method: Method = "best_fit",
    batch_size: int = 8,
    weights: Mapping[str, float] | None = None,
    **options: Any,
) -> Loader:
    shares = weights or {"web": 0.6, "chat": 0.3, "code": 0.1}
    mixture = Mixture({name: (store, shares[name]) for name, store in stores.items()}, max_epochs=None)
    return get_loader(mixture, seq_len=SEQ, batch_size=batch_size, packing=Packing(method, window=30), **options)


def seen(batches: Sequence[Batch]) -> list[tuple[int, int]]:
    """(source, document) of every span but the padding, in order."""
    return [
        (source, document)
        for batch in batches
        for source, document in zip(batch.source_ids.tolist(), batch.documents.tolist(), strict=True)
        if source >= 0
    ]


def equal(left: Batch, right: Batch) -> bool:
    arrays = ("ids", "labels", "weights", "position_ids", "document_ids", "cu_seqlens", "source_ids", "documents")
    same = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays)
    return same and (left.step, left.first_row, left.row_ids) == (right.step, right.first_row, right.row_ids)


def joined(parts: Sequence[Batch]) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """The global batch: ids and spans of all ranks, in order of rank."""
    return [row for part in parts for row in part.ids.tolist()], seen(parts)


# Batches


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_holds_the_documents_that_it_names(stores: dict[str, TokenStore], method: Method) -> None:
    loader = mixed(stores, method)
    sources = list(stores.values())
    for _ in range(30):
        batch = next(loader)
        assert batch.ids.dtype == batch.labels.dtype == batch.position_ids.dtype == np.int64
        assert batch.cu_seqlens[-1] == batch.ids.size
        flat = {
            name: getattr(batch, name).reshape(-1)
            for name in ("ids", "labels", "weights", "position_ids", "document_ids")
        }
        bounds = batch.cu_seqlens.tolist()
        for span, (begin, end) in enumerate(pairwise(bounds)):
            assert end > begin
            assert flat["position_ids"][begin:end].tolist() == list(range(end - begin))
            source, offset = int(batch.source_ids[span]), int(batch.offsets[span])
            if source < 0:
                assert set(flat["ids"][begin:end].tolist()) == {PAD}
                assert set(flat["labels"][begin:end].tolist()) == {IGNORED}
                assert not flat["weights"][begin:end].any()
                assert set(flat["document_ids"][begin:end].tolist()) == {-1}
                assert batch.row_ids[span] is None
                continue
            document = sources[source].document(int(batch.documents[span]))
            inside = slice(offset, offset + end - begin)
            assert flat["ids"][begin:end].tolist() == document.ids[inside].tolist()
            assert set(flat["document_ids"][begin:end].tolist()) == {span}
            assert batch.row_ids[span] == document.row_id
            expected = document.weights[inside].copy()
            expected[0] = 0
            assert flat["weights"][begin:end].tolist() == expected.tolist()
            learnt = np.where(expected != 0, document.ids[inside], IGNORED)
            assert flat["labels"][begin:end].tolist() == learnt.tolist()


def test_denominators_and_counts_are_those_of_the_arrays(stores: dict[str, TokenStore]) -> None:
    batch = next(mixed(stores))
    assert batch.denominator == pytest.approx(float(batch.weights.sum()))
    assert batch.num_learnt == int((batch.labels != IGNORED).sum())
    assert batch.num_tokens == int((batch.document_ids >= 0).sum()) == sum(batch.tokens_by_source().values())
    assert batch.max_seqlen == int(np.diff(batch.cu_seqlens).max())


def test_one_document_a_row_is_padded_to_the_longest_only(tmp_path: Path) -> None:
    store = make_store(tmp_path, [3, 5, 4, 2])
    batch = get_loader(store, seq_len=64, batch_size=4, packing=Packing("one")).batch(0)
    assert batch.ids.shape == (4, 5)
    assert sorted(np.diff(batch.cu_seqlens)[batch.source_ids >= 0].tolist()) == [2, 3, 4, 5]


def test_pad_equal_to_the_end_token_hides_nothing(tmp_path: Path) -> None:
    from dataclasses import replace

    from stillhouse.tokens._segments import SegmentWriter, write_manifest

    same = replace(layout(), pad_id=1)
    writer = SegmentWriter(tmp_path / "segments", 0, same)
    writer.add("a", [5, 6, 1])
    write_manifest(tmp_path, same, [writer.close((0, 1))])
    batch = next(get_loader(TokenStore(tmp_path), seq_len=6, batch_size=1))
    assert batch.ids.tolist() == [[5, 6, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [[IGNORED, 6, 1, IGNORED, IGNORED, IGNORED]]


def numbered(name: str, width: int) -> Extra:
    return Extra(name, "<i4", width)


@pytest.mark.parametrize("method", METHODS)
def test_extra_arrays_come_with_the_tokens_that_they_stand_beside(tmp_path: Path, method: Method) -> None:
    plain = make_store(tmp_path / "plain", [3, 5, 9, 2, 7] * 3)
    chat = make_store(tmp_path / "chat", [4, 20, 6, 8], per_segment=2, seed=1)
    teacher = store_with_extra(
        chat, numbered("teacher", 2), lambda document: np.stack([document.ids, -document.ids], 1), tmp_path / "taught"
    )
    sources = {"plain": (plain, 1.0), "chat": (teacher, 1.0)}
    loader = get_loader(Mixture(sources), seq_len=SEQ, batch_size=4, packing=Packing(method))
    for batch in (next(loader), next(loader), loader.row(3), *loader.once()):
        taught = (batch.document_ids >= 0) & np.isin(batch.document_ids, np.flatnonzero(batch.source_ids == 1))
        expected = np.where(taught[..., None], np.stack([batch.ids, -batch.ids], 2), 0)
        assert np.array_equal(batch.extras["teacher"], expected)
        assert batch.extras["teacher"].dtype == np.int32
        assert tensors(batch)["extras.teacher"].shape == (*batch.ids.shape, 2)
    other = store_with_extra(plain, numbered("teacher", 1), lambda document: document.ids, tmp_path / "other")
    with pytest.raises(RecipeError, match="the extra array `teacher` of the source `chat`"):
        get_loader(Mixture({"plain": other, "chat": teacher}), seq_len=SEQ, batch_size=4)
    assert not get_loader(plain, seq_len=SEQ, batch_size=4).batch(0).extras


# Exactly once


@given(st.lists(st.integers(1, SEQ), min_size=1, max_size=60), methods, st.integers(0, 99))
def test_every_document_comes_once_before_any_comes_twice(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], method: Method, seed: int
) -> None:
    store = make_store(tmp_path_factory.mktemp("store"), lengths)
    loader = get_loader(store, seq_len=SEQ, batch_size=1, packing=Packing(method, window=10), seed=seed)
    [source] = loader.sources
    for epoch in range(3):
        first, last = source.epoch_start(epoch), source.epoch_start(epoch + 1)
        pieces: Counter[int] = Counter()
        for step in range(first, last):
            batch = loader.batch(step)
            for span in np.flatnonzero(batch.source_ids >= 0).tolist():
                pieces[int(batch.documents[span])] += int(np.diff(batch.cu_seqlens)[span])
        assert pieces == Counter(dict(enumerate(lengths)))


@given(methods, st.integers(0, 99), st.integers(1, 4), st.integers(1, 8), st.tuples(*[st.integers(1, 20)] * 3))
@settings(max_examples=15)
def test_a_mixture_gives_each_row_of_a_source_once_an_epoch(
    stores: dict[str, TokenStore], method: Method, seed: int, share: int, world_size: int, shares: tuple[int, ...]
) -> None:
    names, weights = list(stores), dict(zip(stores, shares, strict=True))
    options: dict[str, Any] = {"batch_size": share * world_size, "seed": seed, "world_size": world_size}
    loaders = [mixed(stores, method, rank=rank, weights=weights, **options) for rank in range(world_size)]
    pieces: Counter[SeenRow] = Counter()
    for step in range(300 // (share * world_size)):
        told = loaders[0].rows_at_step(step)
        assert seen([loader.batch(step) for loader in loaders]) == [(names.index(r.source), r.document) for r in told]
        pieces.update(told)
    for name, store in stores.items():
        times = {piece: count for piece, count in pieces.items() if piece.source == name}
        most, least = max(times.values(), default=0), min(times.values(), default=0)
        assert most - least <= 1
        if most > 1:  # `concat` cuts documents, so it is their pieces that come once each
            assert sum(piece.length for piece in times) == store.num_tokens


def test_epochs_come_in_different_orders_and_seeds_differ(stores: dict[str, TokenStore]) -> None:
    def order(epoch: int, seed: int) -> list[tuple[int, int]]:
        loader = get_loader(stores["web"], seq_len=SEQ, batch_size=1, seed=seed)
        rows = loader.rows_per_epoch
        return seen([loader.batch(step) for step in range(epoch * rows, (epoch + 1) * rows)])

    assert sorted(order(0, 0)) == sorted(order(1, 0)) == sorted(order(0, 1))
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) == order(0, 0)


def test_without_shuffling_documents_come_in_their_order(tmp_path: Path) -> None:
    store = make_store(tmp_path, [5] * 12)
    loader = get_loader(store, seq_len=5, batch_size=3, packing=Packing("concat"), shuffle=False)
    assert [document for _, document in seen([next(loader) for _ in range(8)])] == [*range(12), *range(12)]


def test_golden_order(tmp_path: Path) -> None:
    """What a run sees must not change with a version or a platform: its checkpoints would go on with other rows."""
    lengths = [1 + 7 * number % SEQ for number in range(40)]
    fixed = {name: make_store(tmp_path / name, lengths[first:]) for first, name in enumerate(("web", "chat", "code"))}
    loader = mixed(fixed, batch_size=4)
    names = [f"{row.source}{row.document}" for step in (0, 77) for row in loader.rows_at_step(step)]
    assert " ".join(names) == "chat34 web15 web19 web35 chat9 chat9 chat2 chat6 web3 web7 web34"


# Resuming


@given(methods, st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
@settings(max_examples=30)
def test_resumed_at_any_step_equals_uninterrupted(
    stores: dict[str, TokenStore], method: Method, stop: int, change: int, seed: int
) -> None:
    def run(loader: Loader, last: int) -> list[Batch]:
        batches = []
        while loader.step < last:
            if loader.step == change and len(loader.state_dict()["log"]) == 1:
                loader.set_weights({"web": 0.1, "chat": 0.2, "code": 0.7}, reason="test")
                loader.set_batch_size(12)
            batches.append(next(loader))
        return batches

    whole = run(mixed(stores, method, seed=seed), 45)
    first = mixed(stores, method, seed=seed)
    run(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    rest = run(mixed(stores, method, seed=seed, state=state), 45)
    assert len(rest) == 45 - stop
    assert all(equal(left, right) for left, right in zip(rest, whole[stop:], strict=True))


def test_resumed_in_a_new_process_equals_uninterrupted(stores: dict[str, TokenStore], tmp_path: Path) -> None:
    loader = mixed(stores, "windows")
    for _ in range(17):
        next(loader)
    loader.set_weights({"web": 1, "chat": 1, "code": 8})
    (tmp_path / "state.json").write_text(json.dumps(loader.state_dict()))
    folders = {name: str(store.folder) for name, store in stores.items()}
    program = f"""
import json, sys
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
folders = {folders!r}
loader = get_loader(Mixture(dict(zip(folders, zip(folders.values(), (.6, .3, .1)))), max_epochs=None), seq_len={SEQ},
    batch_size=8, packing=Packing("windows", window=30), state=json.load(open(sys.argv[1])))
print(json.dumps([next(loader).ids.tolist() for _ in range(40)]))
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    command = [sys.executable, "-c", program, str(tmp_path / "state.json")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert json.loads(printed) == [next(loader).ids.tolist() for _ in range(40)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 1}, "seed: 0 then, 1 now"),
        ({"method": "concat"}, "packing"),
        ({"shuffle": False}, "shuffle"),
    ],
)
def test_a_state_of_other_settings_is_refused_saying_what_differs(
    stores: dict[str, TokenStore], options: dict[str, Any], said: str
) -> None:
    state = mixed(stores).state_dict()
    with pytest.raises(RecipeError, match=said):
        mixed(stores, **options, state=state)


def test_a_state_of_other_data_is_refused_naming_the_source(stores: dict[str, TokenStore], tmp_path: Path) -> None:
    state = mixed(stores).state_dict()
    fewer = make_store(tmp_path, [3, 4])
    then, now = rf"\(15 documents, {stores['code'].num_tokens} tokens\)", r"\(2 documents, 7 tokens\)"
    with pytest.raises(RecipeError, match=rf"source code: \w+ {then} then, \w+ {now} now"):
        mixed({**stores, "code": fewer}, state=state)
    with pytest.raises(RecipeError, match=rf"source code: \w+ then, \w+ {now} now"):
        mixed({**stores, "code": fewer}, state=damaged(state, sizes=None))  # a state of before
    with pytest.raises(RecipeError, match="source data"):
        get_loader(stores["web"], seq_len=SEQ, batch_size=8, packing=Packing(window=30), state=state)


def test_a_store_that_grew_is_refused_until_it_is_opened_as_it_was(tmp_path: Path) -> None:
    store = make_store(tmp_path, [3, 4, 5] * 5)
    loader = get_loader(store, seq_len=SEQ, batch_size=2)
    next(loader)
    state = loader.state_dict()
    append_documents(tmp_path, [6, 7])
    with pytest.raises(RecipeError, match="source data"):
        get_loader(tmp_path, seq_len=SEQ, batch_size=2, state=state)
    former = TokenStore(tmp_path, fingerprint=state["sources"]["data"])
    assert equal(next(get_loader(former, seq_len=SEQ, batch_size=2, state=state)), next(loader))


def test_a_state_with_a_hundred_changes_stays_small(tmp_path: Path) -> None:
    """Five sources, far out in the run, each change with its reason."""
    five = {f"source{number}": make_store(tmp_path / str(number), [3, 5, 4], name=str(number)) for number in range(5)}
    loader = get_loader(Mixture(five, max_epochs=None), seq_len=SEQ, batch_size=8)
    for change in range(100):
        far = {**loader.state_dict(), "step": 10**10 + 1_000 * change}
        loader.load_state_dict(far)
        weights = {name: 1 + (7 * change + 13 * number) % 23 for number, name in enumerate(five)}
        loader.set_weights(weights, reason="loss on held-out rows" if change % 2 else "as planned")
    state = json.dumps(loader.state_dict())
    assert len(state.encode()) < 4_096
    again = get_loader(Mixture(five, max_epochs=None), seq_len=SEQ, batch_size=8, state=json.loads(state))
    assert again.state_dict() == loader.state_dict()
    assert equal(next(again), next(loader))


def test_a_state_of_the_former_format_goes_on(stores: dict[str, TokenStore]) -> None:
    loader = mixed(stores, batch_size=4)
    next(loader)
    loader.set_weights({"web": 1, "chat": 0, "code": 0}, reason="why")
    next(loader)
    loader.set_batch_size(8)
    state = loader.state_dict()
    former = {key: value for key, value in state.items() if key not in ("reasons", "sizes")} | {
        "format": "stillhouse-loader/1",
        "log": [[0, [10066330, 5033165, 1677721], 4], [4, [1 << 24, 0, 0], None, "why"], [8, None, 8]],
    }
    again = mixed(stores, batch_size=4, state=json.loads(json.dumps(former)))
    assert again.state_dict() == state
    counted = {key: value for key, value in former.items() if key not in ("step", "epoch_ends")}
    assert loader.fingerprint == again.fingerprint == f"{key_of(json.dumps(counted, sort_keys=True)):016x}"
    assert equal(next(again), next(loader))


def test_a_state_of_sources_in_another_order_is_refused(stores: dict[str, TokenStore]) -> None:
    state = json.loads(json.dumps(mixed(stores).state_dict(), sort_keys=True))
    mixed(stores, state=state)
    with pytest.raises(RecipeError, match=r"order web, chat, code, now in code, chat, web"):
        mixed(dict(reversed(stores.items())), state=state)


def damaged(state: Any, **parts: Any) -> Any:
    return {name: value for name, value in {**state, **parts}.items() if value is not None}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"log": None}, "`log` is missing"),
        ({"step": -3}, "the step is -3"),
        ({"step": "3"}, "the step is '3'"),
        ({"log": []}, "does not begin with weights"),
        ({"log": [[0, [1, 2], 0, 8]]}, "names 2 of 3 sources"),
        ({"log": [[0, "AAAB", 0, 8]]}, "names 2 of 3 sources"),
        ({"log": [[0, "AAABAAA", 0, 8]]}, "damaged"),
        ({"log": [[0, [1, 2, 3], 0, 8]]}, "the entry .* of the log"),
        ({"log": [[0, "gAAAQAAAAAAA", 0, 8], [16, None, 0, 4], [-8, None, 0, 8]]}, "names 4 of 3"),
        ({"log": [[0, "gAAAQAAA", 0, 8], [16, None, 0, 4], [-8, None, 0, 8]]}, "last change|first of a step"),
        ({"log": [[0, "gAAAQAAA", 0, 8, ["x", 1, 1]]]}, "damaged"),
        ({"log": [[0, "gAAAQAAA", 3, 8]]}, "damaged"),
        ({"log": [[0, "gAAAQAA=", 0, 8]]}, "names 2 of 3"),
        ({"log": [[0, "gAAAQAAA", -1, 8]], "reasons": ["a"]}, "no reason -1"),
        ({"log": [[0, "gAAAQAAA", 1, 8]], "reasons": [7]}, "the reason 7"),
        ({"log": 7}, "damaged"),
        ({"sources": 7}, "damaged"),
        ({"epoch_ends": [1]}, "damaged"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(
    stores: dict[str, TokenStore], parts: dict[str, Any], said: str
) -> None:
    loader = mixed(stores)
    before = loader.state_dict()
    with pytest.raises(RecipeError, match=said):
        loader.load_state_dict(damaged(before, **parts))
    assert loader.state_dict() == before
    with pytest.raises(RecipeError, match="of type `str`"):
        loader.load_state_dict(json.dumps(before))  # type: ignore[arg-type]


# Ranks


@given(methods, st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2, 3, 4, 6]), st.integers(0, 20))
@settings(max_examples=25)
def test_the_global_batch_does_not_depend_on_the_ranks(
    stores: dict[str, TokenStore], method: Method, before: int, after: int, stop: int
) -> None:
    alone = mixed(stores, method, batch_size=12)
    ranks = [mixed(stores, method, batch_size=12, rank=rank, world_size=before) for rank in range(before)]
    for _ in range(stop):
        parts = [next(loader) for loader in ranks]
        assert _same_rows(parts, next(alone), method)
    state = ranks[0].state_dict()
    assert all(loader.state_dict() == state for loader in ranks)
    ranks = [mixed(stores, method, batch_size=12, rank=rank, world_size=after, state=state) for rank in range(after)]
    for _ in range(6):
        assert _same_rows([next(loader) for loader in ranks], next(alone), method)


def _same_rows(parts: Sequence[Batch], whole: Batch, method: Method) -> bool:
    if method == "one":  # each rank is padded to its own longest row
        return seen(parts) == seen([whole])
    return joined(parts) == (whole.ids.tolist(), seen([whole]))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (1, 3), (1, 1, 2)])
def test_no_rank_sees_another_mixture_than_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int, weights: tuple[int, ...]
) -> None:
    """The share of each source on each rank is within 5 standard deviations of its weight: no aliasing."""
    monkeypatch.setattr(_course, "_BLOCK_ROWS", 4096)  # thousands of steps, none of them near a border
    sources = {f"s{number}": (make_store(tmp_path / str(number), [4] * 50), w) for number, w in enumerate(weights)}
    num_steps, per_rank = 250, 4
    for rank in range(world_size):
        loader = get_loader(
            Mixture(sources, max_epochs=None),
            seq_len=4,
            batch_size=per_rank * world_size,
            rank=rank,
            world_size=world_size,
        )
        counts = np.zeros(len(weights))
        for step in range(num_steps):
            counts += np.bincount(loader.batch(step).source_ids, minlength=len(weights))
        shares = np.array(weights) / sum(weights)
        rows = num_steps * per_rank
        assert (np.abs(counts - rows * shares) < 5 * np.sqrt(rows * shares * (1 - shares))).all()


@pytest.mark.parametrize(("batch_size", "world_size", "rank"), [(0, 1, 0), (5, 2, 0), (4, 2, 2), (4, 2, -1)])
def test_ranks_and_batches_that_do_not_fit_are_refused(
    tmp_path: Path, batch_size: int, world_size: int, rank: int
) -> None:
    store = make_store(tmp_path, [3])
    with pytest.raises(RecipeError, match="rank"):
        get_loader(store, seq_len=8, batch_size=batch_size, world_size=world_size, rank=rank)


def test_a_batch_size_that_the_new_ranks_cannot_share_is_refused(stores: dict[str, TokenStore]) -> None:
    loader = mixed(stores, batch_size=16)
    next(loader)
    state = loader.state_dict()
    with pytest.raises(RecipeError, match=r"(?s)16 rows cannot be dealt to 6 ranks.*set_batch_size"):
        mixed(stores, batch_size=18, rank=5, world_size=6, state=state)
    ranks = [mixed(stores, batch_size=18, rank=rank, world_size=6) for rank in range(6)]
    before = ranks[0].state_dict()
    with pytest.raises(RecipeError, match="16 rows cannot be dealt"):
        ranks[0].load_state_dict(state)
    assert ranks[0].state_dict() == before
    loader.set_batch_size(18)
    with pytest.warns(UserWarning, match="batch size of its state"):
        ranks = [mixed(stores, batch_size=6, rank=r, world_size=6, state=loader.state_dict()) for r in range(6)]
    with pytest.raises(RecipeError, match="16 rows cannot be dealt"):
        ranks[0].batch(0)  # of before the change
    assert joined([next(rank) for rank in ranks])[1] == seen([next(loader)])


# Weights that change


def test_a_change_holds_from_the_next_step_and_touches_nothing_before(stores: dict[str, TokenStore]) -> None:
    loader, steady = mixed(stores), mixed(stores)
    before = [next(loader) for _ in range(10)]
    loader.set_weights({"web": 0.0, "chat": 0.0, "code": 1.0}, reason="only code")
    after = [next(loader) for _ in range(5)]
    assert all(equal(left, next(steady)) for left in before)
    assert all(equal(left, loader.batch(step)) for step, left in enumerate(before))
    assert {batch.source_names[source] for batch in after for source, _ in seen([batch])} == {"code"}
    assert loader.weights == {"web": 0.0, "chat": 0.0, "code": 1.0}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), max_size=12))
@settings(max_examples=20)
def test_changes_skip_and_repeat_nothing_and_replay_from_the_log(
    stores: dict[str, TokenStore], changes: list[tuple[int, int, int, int]]
) -> None:
    loader = mixed(stores)
    batches = []
    for steps, web, chat, code in changes:
        batches += [next(loader) for _ in range(steps)]
        loader.set_weights({"web": web, "chat": chat, "code": code})
    batches += [next(loader) for _ in range(10)]
    for number, store in enumerate(stores.values()):
        counts = Counter(document for source, document in seen(batches) if source == number)
        times = [counts[document] for document in range(store.num_documents)]
        assert max(times) - min(times) <= 1
    replayed = mixed(stores, state={**loader.state_dict(), "step": 0})
    assert all(equal(next(replayed), batch) for batch in batches)


def test_weights_that_name_no_source_are_refused(stores: dict[str, TokenStore]) -> None:
    with pytest.raises(RecipeError, match=r"(?s)no source is called `wiki`.*web, chat, code"):
        mixed(stores).set_weights({"wiki": 1.0})
    with pytest.raises(RecipeError, match="weight of `chat` is 'x'"):
        mixed(stores).set_weights({"web": 1.0, "chat": "x", "code": 1.0})  # type: ignore[dict-item]


def test_without_weights_sources_end_their_epochs_together(stores: dict[str, TokenStore]) -> None:
    loader = get_loader(Mixture(stores), seq_len=SEQ, batch_size=1)
    batches = [next(loader) for _ in range(loader.rows_per_epoch)]
    counts = Counter(seen(batches))
    expected = {(number, d) for number, store in enumerate(stores.values()) for d in range(store.num_documents)}
    missing = expected - set(counts)
    assert len(missing) <= 12  # the documents of at most two rows
    epochs = [account.epochs for account in loader.account().values()]
    assert max(epochs) == pytest.approx(min(epochs), abs=0.2)


# Questions


@given(methods, st.integers(1, 60), st.integers(0, 30))
@settings(max_examples=20)
def test_accounts_from_arithmetic_equal_what_the_batches_held(
    stores: dict[str, TokenStore], method: Method, steps: int, change: int
) -> None:
    loader = mixed(stores, method)
    tokens: Counter[str] = Counter()
    learnt: Counter[str] = Counter()
    padding = 0
    for step in range(steps):
        if step == change:
            loader.set_weights({"web": 1, "chat": 5, "code": 1})
        batch = next(loader)
        tokens.update(batch.tokens_by_source())
        padding += batch.ids.size - batch.num_tokens
        counts = np.add.reduceat((batch.weights != 0).reshape(-1).astype(int), batch.cu_seqlens[:-1])
        for source, count in zip(batch.source_ids.tolist(), counts.tolist(), strict=True):
            learnt[batch.source_names[source]] += count if source >= 0 else 0
    accounts = loader.account()
    assert {name: account.tokens for name, account in accounts.items()} == {name: tokens[name] for name in stores}
    assert {name: account.learnt for name, account in accounts.items()} == {name: learnt[name] for name in stores}
    assert sum(account.rows for account in accounts.values()) == steps * 8
    assert sum(account.share for account in accounts.values()) == pytest.approx(1)
    if method != "one":  # whose batches are cut to their longest row
        assert sum(account.padding for account in accounts.values()) == padding
    if steps > 3:  # going back, and on again
        before = mixed(stores, method, state={**loader.state_dict(), "step": steps - 3}).account()
        assert loader.account(steps - 3) == before
        assert loader.account() == accounts


@given(methods, st.integers(0, 20), st.sampled_from(["web", "chat", "code"]), st.integers(0, 14))
@settings(max_examples=25)
def test_steps_of_a_row_are_those_whose_batches_hold_it(
    stores: dict[str, TokenStore], method: Method, change: int, source: str, document: int
) -> None:
    loader = mixed(stores, method)
    holding = []
    for step in range(50):
        if step == change:
            loader.set_weights({"web": 1, "chat": 1, "code": 3})
        if row_id(document, source) in next(loader).row_ids:
            holding.append(step)
    assert loader.steps_of_row(row_id(document, source)) == holding
    assert loader.steps_of_row(row_id(document, source), until=25) == [step for step in holding if step < 25]
    assert loader.steps_of_row("no such row") == []


def test_rows_at_a_step_are_those_of_all_ranks_and_lead_back_to_the_text(stores: dict[str, TokenStore]) -> None:
    loaders = [mixed(stores, rank=rank, world_size=4) for rank in range(4)]
    rows = loaders[2].rows_at_step(13)
    found = [row_id for loader in loaders for row_id in loader.batch(13).row_ids if row_id is not None]
    assert [row.row_id for row in rows] == found
    for row in rows:
        document = stores[row.source].document(row.document)
        assert document.row_id == row.row_id
        assert document.ids.tolist() == ids_of(row.document, row.length)
        assert 13 in loaders[0].steps_of_row(row.row_id, until=14)


def test_after_other_ranks_and_weights_rows_lead_to_their_steps_and_those_to_come(
    stores: dict[str, TokenStore],
) -> None:
    """1 → 6 → 4 ranks, weights and a batch size that change: past and future are asked of a loader made anew."""
    seen_at: dict[str, list[int]] = {}
    state: Any = None
    for world_size, steps in ((1, 6), (6, 7), (4, 30)):
        ranks = [
            mixed(stores, batch_size=12, rank=rank, world_size=world_size, state=state) for rank in range(world_size)
        ]
        for _ in range(steps):
            for loader in ranks:
                batch = next(loader)
                for row in {row for row in batch.row_ids if row is not None}:
                    if batch.step not in seen_at.setdefault(row, []):
                        seen_at[row].append(batch.step)
        for loader in ranks:
            loader.set_weights({"web": 1, "chat": 1, "code": world_size}, reason="test")
        state = json.loads(json.dumps(ranks[0].state_dict()))
        if world_size == 6:
            early = mixed(stores, batch_size=12, state=state)  # asked before the steps that are to come
    for row, steps_seen in [*seen_at.items()][::9]:
        assert early.steps_of_row(row, until=43) == steps_seen
    for step in (2, 9, 40):
        assert {row.row_id for row in early.rows_at_step(step)} == {row for row, at in seen_at.items() if step in at}


def test_far_out_a_step_is_found_as_quickly_as_the_first(stores: dict[str, TokenStore]) -> None:
    """At row 10^11 the state is the same few integers, and both directions still agree."""
    loader = mixed(stores)
    step = 10**11 // 8
    state = {**loader.state_dict(), "step": step}
    far = mixed(stores, state=state)
    batch = next(far)
    assert batch.step == step
    assert batch.first_row == step * 8
    assert all(account.epochs > 10**8 for account in far.account().values())
    again = mixed(stores, state=far.state_dict())
    assert equal(next(again), next(far))


# Evaluation


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_pass_for_evaluation_holds_each_document_once_in_batches_of_one_size(
    stores: dict[str, TokenStore], method: Method, world_size: int
) -> None:
    loaders = [mixed(stores, method, batch_size=9, rank=rank, world_size=world_size) for rank in range(world_size)]
    passes = [list(loader.once()) for loader in loaders]
    assert len({len(batches) for batches in passes}) == 1
    spans = [pair for batches in passes for pair in seen(batches)]
    expected = Counter({(n, d): 1 for n, store in enumerate(stores.values()) for d in range(store.num_documents)})
    assert (Counter(set(spans)) if method == "concat" else Counter(spans)) == expected
    tokens = sum(batch.num_tokens for batches in passes for batch in batches)
    assert tokens == sum(store.num_tokens for store in stores.values())
    assert all(batch.num_rows == 9 // world_size for batches in passes for batch in batches)


def test_a_pass_for_evaluation_moves_nothing(stores: dict[str, TokenStore]) -> None:
    loader = mixed(stores)
    list(loader.once(3))
    assert loader.step == 0
    assert equal(next(loader), next(mixed(stores)))


# Epochs in steps


@given(st.floats(0.01, 5), st.integers(1, 9))
def test_steps_in_fractions_of_epochs(stores: dict[str, TokenStore], epochs: float, batch_size: int) -> None:
    loader = get_loader(stores["web"], seq_len=SEQ, batch_size=batch_size)
    steps = loader.steps_in(epochs)
    rows = epochs * loader.rows_per_epoch
    assert steps >= 1
    assert (steps - 1) * batch_size < max(1.0, rows + 0.5)
    assert steps * batch_size >= rows - 0.5


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 2.0}, "`batch_size` is 2.0"),
        ({"shuffle": "windows"}, "`shuffle` is 'windows'"),
        ({"seed": 1.5}, "`seed` is 1.5"),
        ({"seed": "x"}, "`seed` is 'x'"),
        ({"seq_len": 24.0}, "`seq_len` is 24.0"),
        ({"seq_len": 1}, "`seq_len` is 1"),
        ({"packing": 3}, "`packing` is 3"),
        ({"packing": "best"}, "Packing: `method`"),
    ],
)
def test_options_of_another_kind_are_refused(stores: dict[str, TokenStore], options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        get_loader(stores["web"], **{"seq_len": SEQ, "batch_size": 2, **options})


def test_what_is_no_step_is_refused(stores: dict[str, TokenStore]) -> None:
    loader = mixed(stores)
    asked: list[Any] = [lambda: loader.batch(-1), lambda: loader.account(-1), lambda: loader.rows_at_step(-1)]
    for ask in asked:
        with pytest.raises(RecipeError, match="no step -1"):
            ask()
    with pytest.raises(RecipeError, match=r"`step` is 3\.0"):
        loader.rows_at_step(3.0)  # type: ignore[arg-type]
    next(loader)  # with a block at hand, too
    with pytest.raises(RecipeError, match=r"`step` is 0\.0"):
        loader.batch(0.0)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="given as a mapping"):
        get_loader({"web": stores["web"]}, seq_len=SEQ, batch_size=2)  # type: ignore[arg-type]


def test_a_packing_may_be_named_by_its_method_and_numbers_may_be_those_of_numpy(stores: dict[str, TokenStore]) -> None:
    two: Any = np.int64(2)
    loader = get_loader(stores["web"], seq_len=SEQ, batch_size=two, seed=two, packing="concat")
    loader.set_batch_size(two)
    assert loader.settings == Settings(SEQ, Packing("concat"), 2)
    assert json.dumps(loader.state_dict())


def test_an_empty_source_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`data` is empty"):
        get_loader(make_store(tmp_path, []), seq_len=8, batch_size=1)


def test_a_source_with_no_document_that_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no document that fits"):
        get_loader(make_store(tmp_path, [9, 9]), seq_len=8, batch_size=1, packing=Packing(too_long="leave_out"))


def test_a_document_longer_than_a_row_is_named(tmp_path: Path) -> None:
    short, long = make_store(tmp_path / "short", [3]), make_store(tmp_path / "long", [3, 9])
    with pytest.raises(RecipeError, match=f"source `web`: 1 of 2 documents .* {row_id(1)}"):
        get_loader(Mixture({"chat": short, "web": long}), seq_len=8, batch_size=1)


def test_sources_of_different_tokenizers_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from stillhouse.tokens._segments import SegmentWriter, write_manifest

    other = replace(layout(), tokenizer="other")
    writer = SegmentWriter(tmp_path / "b" / "segments", 0, other)
    writer.add("a", [5, 6, 1])
    write_manifest(tmp_path / "b", other, [writer.close((0, 1))])
    with pytest.raises(RecipeError, match="different tokenizers"):
        get_loader(Mixture({"a": make_store(tmp_path / "a", [3]), "b": tmp_path / "b"}), seq_len=8, batch_size=1)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no folder"):
        get_loader(tmp_path / "nothing", seq_len=8, batch_size=1)


def test_arrays_of_a_batch_can_be_sent_to_another_process(stores: dict[str, TokenStore]) -> None:
    from dataclasses import replace

    batch = next(mixed(stores))
    again = pickle.loads(pickle.dumps(replace(batch, lookup=None)))  # noqa: S301  our own bytes
    assert np.array_equal(again.labels, batch.labels)
