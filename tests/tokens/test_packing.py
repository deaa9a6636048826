from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import digest
from stillhouse.tokens._best_fit import best_fit_arriving, best_fit_decreasing
from stillhouse.tokens._packing import Plan, make_plan
from stillhouse.tokens._segments import Weighting
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Method, Packing
from tests.tokens.stores import make_store

ROW = 32
GOLDEN_PLANS = {
    "best_fit": (2085, "c6786d65ac7893815c84d241d0f17e6f"),
    "windows": (2090, "20dc97c2104b1b8b666e49da57c6b70b"),
    "stream": (2137, "a936b89e13291549e56a65783f385e69"),
    "concat": (2085, "4717b5951ad3cfcf00b1c60997d631b7"),
    "one": (3808, "2cf3a456388d45015babced217f3724a"),
}
"""Of each method the number of rows, and the digest of what stands in them."""
short = st.lists(st.integers(1, ROW), max_size=120)
any_length = st.lists(st.integers(1, 4 * ROW), min_size=1, max_size=80)
METHODS: list[Method] = ["best_fit", "windows", "stream", "concat", "one"]


def textbook_rows(lengths: list[int], capacity: int) -> int:
    """The number of rows of best-fit decreasing, one document at a time."""
    spaces: list[int] = []
    rows = 0
    for length in sorted(lengths, reverse=True):
        place = bisect_left(spaces, length)
        if place < len(spaces):
            space = spaces.pop(place)
        else:
            space, rows = capacity, rows + 1
        insort(spaces, space - length)
    return rows


def stream_rows(lengths: list[int], capacity: int, open_rows: int) -> list[int]:
    """The row of each document that goes to the fullest open row where it fits, one after another."""
    opened: list[tuple[int, int]] = []  # (space, row); among equals the one that came last is taken
    row_of: list[int] = []
    rows = 0
    for length in lengths:
        if length == capacity:
            row_of.append(rows)
            rows += 1
            continue
        fitting = [place for place, (space, _) in enumerate(opened) if space >= length]
        if fitting:
            least = min(opened[place][0] for place in fitting)
            space, row = opened.pop([place for place in fitting if opened[place][0] == least][-1])
        else:
            if len(opened) == open_rows:
                fullest = min(space for space, _ in opened)
                opened.pop([place for place, (space, _) in enumerate(opened) if space == fullest][-1])
            space, row, rows = capacity, rows, rows + 1
        row_of.append(row)
        if space > length:
            opened.append((space - length, row))
    return row_of


def int32(lengths: list[int]) -> npt.NDArray[np.int32]:
    return np.array(lengths, dtype=np.int32)


def contents(plan: Plan) -> list[list[tuple[int, int, int]]]:
    """Of each row: (document, start, length) of its spans."""
    spans = plan.spans(np.arange(plan.num_rows))
    flat = list(zip(spans.documents.tolist(), spans.starts.tolist(), spans.lengths.tolist(), strict=True))
    ends = np.cumsum(spans.counts).tolist()
    return [flat[end - count : end] for end, count in zip(ends, spans.counts.tolist(), strict=True)]


@given(short)
def test_no_row_is_too_full_and_there_are_as_many_as_by_the_textbook(lengths: list[int]) -> None:
    row_of, num_rows = best_fit_decreasing(int32(lengths), ROW)
    assert num_rows == textbook_rows(lengths, ROW)
    assert len(np.unique(row_of)) == num_rows
    assert np.bincount(row_of, weights=lengths, minlength=1).max(initial=0) <= ROW


def test_a_large_set_packs_as_well_as_the_textbook() -> None:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(300), 0.9, 20_000), 8, 2048).astype(np.int32)
    row_of, num_rows = best_fit_decreasing(lengths, 2048)
    assert num_rows == textbook_rows(lengths.tolist(), 2048)
    assert lengths.sum() / (num_rows * 2048) > 0.999
    assert np.bincount(row_of, weights=lengths).max() <= 2048


@pytest.mark.parametrize("lengths", [[0], [ROW + 1], [3, -1]])
def test_lengths_that_cannot_be_packed_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        best_fit_decreasing(int32(lengths), ROW)


@pytest.mark.parametrize("method", METHODS)
@given(lengths=any_length, window=st.integers(1, 40))
def test_every_token_of_every_document_stands_in_one_row_once(method: Method, lengths: list[int], window: int) -> None:
    plan = make_plan(Packing(method, too_long="split", window=window), int32(lengths), ROW, key=3)
    seen = [[0] * length for length in lengths]
    for row in contents(plan):
        assert 0 < sum(length for _, _, length in row) <= ROW
        for document, start, length in row:
            assert length > 0
            for position in range(start, start + length):
                seen[document][position] += 1
    assert all(count == 1 for document in seen for count in document)
    report = plan.report
    assert report.num_tokens == sum(lengths)
    assert report.num_rows == plan.num_rows
    assert (report.num_left_out, report.tokens_left_out) == (0, 0)
    assert report.utilisation == pytest.approx(sum(lengths) / (plan.num_rows * ROW))


@pytest.mark.parametrize("method", METHODS)
@given(lengths=any_length, window=st.integers(1, 40), data=st.data())
def test_rows_can_be_asked_for_in_any_order_and_found_by_document(
    method: Method, lengths: list[int], window: int, data: st.DataObject
) -> None:
    plan = make_plan(Packing(method, too_long="split", window=window), int32(lengths), ROW)
    rows = contents(plan)
    asked = data.draw(st.lists(st.integers(0, plan.num_rows - 1), max_size=10))
    spans = plan.spans(np.array(asked, dtype=np.int64))
    assert spans.documents.tolist() == [document for row in asked for document, _, _ in rows[row]]
    assert spans.counts.tolist() == [len(rows[row]) for row in asked]
    for document in range(len(lengths)):
        found = [number for number, row in enumerate(rows) if any(span[0] == document for span in row)]
        assert plan.rows_of(document) == found


@given(any_length)
def test_what_is_left_out_is_counted(lengths: list[int]) -> None:
    plan = make_plan(Packing("best_fit", too_long="leave_out"), int32(lengths), ROW)
    long = [length for length in lengths if length > ROW]
    assert plan.report.num_left_out == len(long)
    assert plan.report.tokens_left_out == sum(long)
    assert sorted(span[0] for row in contents(plan) for span in row) == [
        number for number, length in enumerate(lengths) if length <= ROW
    ]


@given(any_length)
def test_what_is_split_is_counted_and_marked_by_its_start(lengths: list[int]) -> None:
    plan = make_plan(Packing("best_fit", too_long="split"), int32(lengths), ROW)
    assert plan.report.num_split == sum(length > ROW for length in lengths)
    starts = [span[1] for row in contents(plan) for span in row]
    assert all(start % ROW == 0 for start in starts)
    assert starts.count(0) == len(lengths)


@given(any_length)
def test_concat_fills_all_rows_but_the_last_and_counts_the_cut_documents(lengths: list[int]) -> None:
    plan = make_plan(Packing("concat"), int32(lengths), ROW)
    rows = contents(plan)
    assert all(sum(length for _, _, length in row) == ROW for row in rows[:-1])
    cut = {document for row in rows for document, start, _ in row if start > 0}
    assert plan.report.num_split == len(cut)


def test_a_long_document_is_refused_by_name_unless_it_is_said_what_becomes_of_it() -> None:
    with pytest.raises(
        RecipeError, match=r"(?s)2 of 3 documents.*row of 32.*the longest has 70 \(row r2\).*too_long='split'"
    ):
        make_plan(Packing(), int32([5, 33, 70]), ROW, row_id=lambda document: f"r{document}")


def test_what_is_packed_anew_depends_on_the_key_and_nothing_else_does() -> None:
    lengths = int32(np.random.default_rng(0).integers(1, ROW, 200).tolist())
    for method in METHODS:
        packing = Packing(method, window=20)
        one, same, other = (contents(make_plan(packing, lengths, ROW, key=key)) for key in (1, 1, 2))
        assert one == same
        assert (one != other) is packing.renewed


def test_windows_lose_little() -> None:
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(np.log(300), 0.9, 30_000), 8, 2048).astype(np.int32)
    whole = make_plan(Packing("best_fit"), lengths, 2048).report
    windows = make_plan(Packing("windows", window=10_000), lengths, 2048).report
    assert whole.utilisation > 0.9995
    assert windows.utilisation > 0.999


def test_the_method_may_stand_first() -> None:
    assert Packing("concat") == Packing(method="concat")
    with pytest.raises(RecipeError, match="method"):
        Packing("tetris")  # type: ignore[arg-type]


@given(lengths=st.lists(st.integers(1, ROW), max_size=120), open_rows=st.integers(1, 9))
def test_documents_that_arrive_go_to_the_fullest_open_row_in_which_they_fit(lengths: list[int], open_rows: int) -> None:
    row_of, num_rows = best_fit_arriving(int32(lengths), ROW, open_rows)
    assert row_of.tolist() == stream_rows(lengths, ROW, open_rows)
    assert num_rows == len(set(row_of.tolist()))


@pytest.mark.parametrize("lengths", [[0], [ROW + 1]])
def test_lengths_that_cannot_be_streamed_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        best_fit_arriving(int32(lengths), ROW, 4)


def test_a_streamed_window_depends_on_its_own_documents_alone() -> None:
    """So any window can be packed again from its first document, whatever came before it."""
    lengths = np.random.default_rng(0).integers(1, ROW, 200).astype(np.int32)
    packing = Packing("stream", window=50, open_rows=3)
    whole = make_plan(packing, lengths, ROW, shuffle=False)
    rows = contents(whole)
    later = contents(make_plan(packing, lengths[50:], ROW, shuffle=False))
    assert [[(d - 50, a, n) for d, a, n in row] for row in rows[len(rows) - len(later) :]] == later


def test_without_shuffling_a_stream_comes_in_the_order_of_the_store() -> None:
    rows = contents(make_plan(Packing("stream", open_rows=1), int32([20, 20, 5, 20, 30]), ROW, shuffle=False))
    assert [[document for document, _, _ in row] for row in rows] == [[0], [1, 2], [3], [4]]


def test_a_stream_loses_little_and_more_open_rows_lose_less() -> None:
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(np.log(300), 0.9, 20_000), 8, 2048).astype(np.int32)
    found = [make_plan(Packing("stream", open_rows=rows), lengths, 2048).report.utilisation for rows in (1, 16, 64)]
    assert found[0] < 0.9 < found[1] < found[2]
    assert found[2] > 0.99


@pytest.mark.parametrize("method", METHODS)
@given(lengths=any_length, window=st.integers(1, 40), data=st.data())
@settings(max_examples=20)
def test_tokens_before_a_row_are_those_of_the_rows_before(
    method: Method, lengths: list[int], window: int, data: st.DataObject
) -> None:
    plan = make_plan(Packing(method, too_long="split", window=window), int32(lengths), ROW)
    row = data.draw(st.integers(0, plan.num_rows))
    assert plan.tokens_before(row) == sum(length for row in contents(plan)[:row] for _, _, length in row)


def test_plans_are_the_same_on_every_platform() -> None:
    """Integers and stable sorts only; the digests were taken once and are to be found everywhere."""
    lengths = (np.arange(3000, dtype=np.int64) * 7919 % 613 % 90 + 1).astype(np.int32)
    found = {}
    for method in METHODS:
        plan = make_plan(Packing(method, too_long="split", window=700, open_rows=8), lengths, 64, key=5)
        spans = plan.spans(np.arange(plan.num_rows))
        found[method] = (plan.num_rows, digest(b"".join(column.astype("<i8").tobytes() for column in spans)))
    assert found == GOLDEN_PLANS


@pytest.mark.parametrize("method", METHODS)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=25),
    weighting=st.sampled_from(["mask", "float"]),
    data=st.data(),
)
@settings(max_examples=6)
def test_loss_weights_after_packing_are_those_of_each_document_alone(
    tmp_path_factory: pytest.TempPathFactory,
    method: Method,
    lengths: list[int],
    weighting: Weighting,
    data: st.DataObject,
) -> None:
    """First tokens aside, of documents and of their further pieces, which no loss can read."""
    examples = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(lengths), max_size=len(lengths)))
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder, lengths, weighting=weighting, example_weights=examples, seed=len(lengths))
    packing = Packing(method, too_long="split", window=7)
    loader = get_loader(store, seq_len=16, batch_size=2, packing=packing)
    found = {number: np.full(length, np.nan) for number, length in enumerate(lengths)}
    total = 0.0
    for batch in loader.once():
        weights, labels, ids = (values.reshape(-1) for values in (batch.weights, batch.labels, batch.ids))
        assert ((labels == -100) == (weights == 0)).all()
        assert (labels[weights != 0] == ids[weights != 0]).all()
        total += batch.denominator
        bounds = batch.cu_seqlens.tolist()
        for span, (document, offset) in enumerate(zip(batch.documents.tolist(), batch.offsets.tolist(), strict=True)):
            here = weights[bounds[span] : bounds[span + 1]]
            assert here[0] == 0
            if document >= 0:
                found[document][offset : offset + len(here)] = here
    wanted = 0.0
    for document in store:
        cut = found[document.number] == 0
        expected = document.weights.copy()
        spans = [span for row in contents(loader.sources[0].plan(0)) for span in row if span[0] == document.number]
        expected[[start for _, start, _ in spans]] = 0
        assert found[document.number].tolist() == expected.tolist()
        assert cut[0]
        wanted += float(expected.sum(dtype=np.float64))
    assert total == pytest.approx(wanted, abs=1e-6)
