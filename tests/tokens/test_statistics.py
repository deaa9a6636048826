"""Statistics over token stores, against counting by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens._segments import SegmentWriter, write_manifest
from stillhouse.tokens.statistics import _histogram, suitable_lengths, token_statistics
from stillhouse.tokens.store import TokenStore
from tests.tokens.stores import layout, make_store


def test_counts_are_those_of_the_documents(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a", [5, 100, 7], weighting="mask")
    b = make_store(tmp_path / "b", [40] * 10)
    found = token_statistics({"a": a, "b": b}, seq_lens=[32, 64], num_longest=3)
    assert (found.documents, found.tokens) == (13, 512)
    assert found.learnt == a.num_learnt + 10 * 39
    assert found.quantiles == {"min": 5, "p50": 40, "p90": 40, "p99": 40, "max": 100}
    assert [(one.source, one.document, one.tokens) for one in found.longest] == [
        ("a", 1, 100),
        ("b", 0, 40),
        ("b", 1, 40),
    ]
    assert found.longest[0].row_id == a.row_ids([1])[0]
    short, long = found.row_lengths
    assert (short.fits, long.fits) == (2 / 13, 12 / 13)
    assert long.tokens_fit == pytest.approx(412 / 512)
    assert long.packed["one"].rows == 14  # the long one takes two
    assert long.packed["best_fit"].rows == 12  # 64; 36, 7 and 5; 10 of 40
    assert long.packed["concat"].rows == -(-112 // 64) + -(-400 // 64)
    assert long.packed["concat"].utilisation == pytest.approx(512 / (9 * 64))
    assert "seq_len=64" in found.advice
    assert "100" in found.advice


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=300))
def test_each_document_stands_in_one_bin_and_lengths_to_compare_hold_most(lengths: list[int]) -> None:
    ordered = np.sort(np.asarray(lengths, dtype=np.int32))
    bins = _histogram(ordered)
    assert sum(one.documents for one in bins) == len(lengths)
    assert sum(one.tokens for one in bins) == sum(lengths)
    assert all(before.high + 1 == after.low for before, after in pairwise(bins))
    sizes = suitable_lengths(ordered)
    assert 1 <= len(sizes) <= 5
    assert sizes == sorted(set(sizes))
    assert (ordered <= sizes[-1]).mean() >= 0.99


def test_roles_named_sources_and_rejects_are_counted(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", 0, layout())
    writer.add("0" * 8, [5, 6, 7, 8], source="x", roles=[("user", 0, 1), ("assistant", 1, 4)])
    writer.add("1" * 8, [5, 6], source="y", roles=[("assistant", 0, 2)])
    writer.reject("2" * 8, "empty", "nothing", {"text": ""})
    segment = writer.close((0, 3))
    write_manifest(tmp_path, layout(), [segment])
    (tmp_path / "segments" / segment.name / "rejects.jsonl").rename(tmp_path / "rejects.jsonl")
    found = token_statistics({"all": TokenStore(tmp_path)})
    assert found.sources["all"].roles == {"user": 1, "assistant": 5}
    assert found.sources["all"].named == {"x": 4, "y": 2}
    assert found.rejects == {"empty": 1}


def test_a_store_without_documents_says_where_to_look(tmp_path: Path) -> None:
    write_manifest(tmp_path, layout(), [])
    with pytest.raises(RecipeError, match=r"there are no documents in.*\n.*rejects.jsonl"):
        token_statistics({"a": TokenStore(tmp_path)})
