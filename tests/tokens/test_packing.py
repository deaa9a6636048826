from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens._best_fit import best_fit_decreasing
from stillhouse.tokens._packing import Plan, make_plan
from stillhouse.tokens.packing import Method, Packing

ROW = 32
short = st.lists(st.integers(1, ROW), max_size=120)
any_length = st.lists(st.integers(1, 4 * ROW), min_size=1, max_size=80)
METHODS: list[Method] = ["best_fit", "windows", "concat", "one"]


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


def test_windows_depend_on_the_key_and_nothing_else_does() -> None:
    lengths = int32(np.random.default_rng(0).integers(1, ROW, 200).tolist())
    for method in METHODS:
        packing = Packing(method, window=20)
        one, same, other = (contents(make_plan(packing, lengths, ROW, key=key)) for key in (1, 1, 2))
        assert one == same
        assert (one != other) is (method == "windows")


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
