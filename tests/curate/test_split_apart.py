from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, RecipeError, Rows, Session, Shuffle, Split, SplitApart
from stillhouse.text.ngrams import ngrams

from .test_dedup import changed, sentence


def families(num: int, size: int) -> Import:
    """`num` families of `size` texts that differ in one word each; every third family is of kind b."""
    data = []
    for family in range(num):
        base = sentence(40, family)
        for member in range(size):
            text = " ".join(changed(base, member))
            data.append({"input": text, "output": "x", "family": family, "kind": "b" if family % 3 == 0 else "a"})
    return Import(data=data)


def parts(session: Session, **fields: Any) -> tuple[Rows, Rows]:
    split = SplitApart(**fields)
    return session.run(split.train), session.run(split.test)


def test_families_are_never_torn_apart(session: Session) -> None:
    train, test = parts(session, rows=families(40, 5), test_size=0.2)
    assert len(train) == 160
    assert len(test) == 40
    assert {row["family"] for row in train} & {row["family"] for row in test} == set()


def test_a_plain_split_tears_them_apart(session: Session) -> None:
    split = Split(rows=families(40, 5), test_size=0.2)
    train, test = session.run(split.train), session.run(split.test)
    assert len({row["family"] for row in train} & {row["family"] for row in test}) > 10


def test_kinds_have_their_shares_in_both_parts(session: Session) -> None:
    train, test = parts(session, rows=families(60, 3), test_size=0.2, by="kind")
    assert Counter(row["kind"] for row in test) == {"a": 24, "b": 12}
    assert Counter(row["kind"] for row in train) == {"a": 96, "b": 48}


def test_groups_stay_together_though_they_are_not_alike(session: Session) -> None:
    data = [{"input": " ".join(sentence(20, n)), "output": "x", "author": f"a{n % 10}"} for n in range(100)]
    train, test = parts(session, rows=Import(data=data), test_size=0.3, group="author")
    assert len(test) == 30
    assert {row["author"] for row in train} & {row["author"] for row in test} == set()


def test_a_cluster_too_large_for_the_test_part_is_trained_on(session: Session) -> None:
    base = sentence(40, 0)
    large = [{"input": " ".join(changed(base, member)), "output": "large"} for member in range(30)]
    small = [{"input": " ".join(sentence(40, number)), "output": "small"} for number in range(1, 21)]
    split = SplitApart(rows=Import(data=[*large, *small]), test_size=25)
    made = session.run(split)
    assert {row["output"] for row in session.run(split.test)} == {"small"}
    assert made.record["facts"] == made.record["facts"] | {"clusters": 21, "test_wanted": 25, "test_found": 20}


def test_the_choice_does_not_depend_on_the_order_of_the_rows(session: Session) -> None:
    rows = families(30, 2)
    _, test = parts(session, rows=rows, test_size=0.3)
    _, again = parts(session, rows=Shuffle(rows=rows), test_size=0.3)
    first, second = {row["family"] for row in test}, {row["family"] for row in again}
    assert first == second
    _, other = parts(session, rows=rows, test_size=0.3, seed=1)
    assert {row["family"] for row in other} != first


@pytest.mark.parametrize("fields", [{"by": "colour"}, {"group": "colour"}, {"columns": ("colour",)}])
def test_a_column_that_is_not_there_is_named(session: Session, fields: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="SplitApart: there is no column `colour`"):
        parts(session, rows=families(3, 2), test_size=0.5, **fields)


def test_rows_like_a_known_one_are_trained_on_and_the_known_rows_stand_in_neither_part(session: Session) -> None:
    known = Import(data=[{"input": " ".join(sentence(40, family)), "output": "known"} for family in range(30)])
    train, test = parts(session, rows=families(40, 5), test_size=0.2, known=known)
    assert len(train) + len(test) == 200
    assert len(test) == 40
    assert {row["family"] for row in test} == set(range(30, 40)) - {row["family"] for row in train}
    assert not any(row["output"] == "known" for rows in (train, test) for row in rows)


def test_groups_of_a_known_row_stay_together(session: Session) -> None:
    known = Import(data=[{"input": " ".join(sentence(20, 3)), "output": "x"}])
    data = [{"input": " ".join(sentence(20, n)), "output": "x", "author": f"a{n % 10}"} for n in range(100)]
    _, test = parts(session, rows=Import(data=data), test_size=0.9, group="author", known=known)
    assert {row["author"] for row in test} == {f"a{n}" for n in range(10)} - {"a3"}


def test_where_every_row_is_like_a_known_one_nothing_is_for_testing(session: Session) -> None:
    train, test = parts(session, rows=families(4, 5), test_size=0.2, known=families(4, 1))
    assert (len(train), len(test)) == (20, 0)


texts = st.lists(st.sampled_from("abcd"), min_size=3, max_size=6).map(" ".join)


@given(st.lists(texts, min_size=4, max_size=16), st.sampled_from([0.25, 0.5]), st.integers(0, 3))
def test_nothing_in_training_is_like_anything_in_the_test(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[str], size: float, seed: int
) -> None:
    data = [{"input": text, "output": str(number)} for number, text in enumerate(inputs)]
    with Session(tmp_path_factory.mktemp("apart"), progress=False, track=False) as session:
        train, test = parts(session, rows=Import(data=data), test_size=size, ngram=2, threshold=0.6, seed=seed)
        assert sorted(row["output"] for rows in (train, test) for row in rows) == sorted(row["output"] for row in data)
        assert len(test) <= round(size * len(data))
        for row in train:
            for item in test:
                left, right = ngrams(row["input"], 2), ngrams(item["input"], 2)
                assert len(left & right) / len(left | right) < 0.6
