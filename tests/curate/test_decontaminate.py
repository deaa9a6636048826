from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Decontaminate, Import, RecipeError, Session, Take
from stillhouse.text.ngrams import ngrams, words

from .test_dedup import changed, sentence

TEST = [sentence(30, 100 + number) for number in range(20)]


def table(*texts: str) -> Import:
    return Import(data=[{"input": text, "output": str(n)} for n, text in enumerate(texts)])


HELD_OUT = table(*(" ".join(one) for one in TEST), "two lattes to go")


def test_rows_that_overlap_go_with_the_evidence(session: Session) -> None:
    copied = " ".join(TEST[3]).upper() + "!"
    near = " ".join(changed(TEST[4], 10))
    quoted = " ".join([*sentence(40, 1), *TEST[5][8:20], *sentence(40, 2)])
    clean = " ".join(sentence(50, 3))
    rows = table(copied, clean, near, quoted, "Two lattes, to go.", "two lattes to stay")
    made = session.run(Decontaminate(rows=rows, against={"held_out": HELD_OUT}))
    assert [row["output"] for row in made] == ["1", "5"]

    items = [row["_id"] for row in session.run(HELD_OUT)]
    dropped = [(row["reason"], json.loads(row["detail"])) for row in made.dropped()]
    assert dropped[0] == (
        "is in the test set `held_out`",
        {"test_set": "held_out", "test_row": items[3], "shared": None, "jaccard": 1.0, "covered": None},
    )
    assert dropped[1][0] == "nearly stands in the test set `held_out`"
    assert dropped[1][1]["test_row"] == items[4]
    assert dropped[1][1]["jaccard"] == round(25 / 31, 4)
    assert dropped[2] == (
        "shares a run of words with the test set `held_out`",
        {
            "test_set": "held_out",
            "test_row": items[5],
            "shared": " ".join(TEST[5][8:20]),
            "jaccard": None,
            "covered": 0.4,
        },
    )
    assert dropped[3][1]["test_row"] == items[20]
    facts = made.record["facts"]
    assert facts == {"test_items": 21, "test_sets": {"held_out": {"items": 21, "items_found": 4, "rows": 4}}}


@pytest.mark.parametrize(("num_words", "kept"), [(9, 1), (10, 0)])
def test_a_span_counts_from_its_length_on(session: Session, num_words: int, kept: int) -> None:
    rows = table(" ".join([*sentence(20, 1), *TEST[0][:num_words], *sentence(20, 2)]))
    assert len(session.run(Decontaminate(rows=rows, against={"held_out": HELD_OUT}))) == kept


def test_each_test_set_is_told_by_its_name(session: Session) -> None:
    first, second = Take(rows=HELD_OUT, num=10), HELD_OUT
    rows = table(" ".join(TEST[2]), " ".join(TEST[12]))
    made = session.run(Decontaminate(rows=rows, against={"first": first, "second": second}))
    assert [row["reason"] for row in made.dropped()] == ["is in the test set `first`", "is in the test set `second`"]
    assert [json.loads(row["detail"]).get("also_in") for row in made.dropped()] == [["second"], None]
    assert made.record["facts"]["test_sets"] == {
        "first": {"items": 10, "items_found": 1, "rows": 1},
        "second": {"items": 21, "items_found": 2, "rows": 2},
    }


@pytest.mark.parametrize(("overlap", "kept"), [(0.0, 0), (0.5, 0), (0.51, 1)])
def test_a_quotation_may_be_too_short_a_part_of_the_item(session: Session, overlap: float, kept: int) -> None:
    # 8 and 7 of the item's thirty words, in two places.
    quoted = " ".join([*sentence(9, 1), *TEST[0][:8], *sentence(9, 2), *TEST[0][20:27], *sentence(9, 3)])
    step = Decontaminate(rows=table(quoted), against={"held_out": HELD_OUT}, span=7, overlap=overlap)
    assert len(session.run(step)) == kept


def naive(text: str, item: str, span: int, overlap: float, threshold: float) -> bool:
    """The definition, with lists and sets of words."""
    own, other = words(text), words(item)
    if not own or not other:
        return False
    first, second = ngrams(text, 3), ngrams(item, 3)
    if len(first & second) / len(first | second) >= threshold:
        return True
    if min(len(own), len(other)) < span:
        return own == other
    runs = {tuple(own[place : place + span]) for place in range(len(own) - span + 1)}
    covered: set[int] = set()
    for place in range(len(other) - span + 1):
        if tuple(other[place : place + span]) in runs:
            covered.update(range(place, place + span))
    return bool(covered) and len(covered) / len(other) >= overlap


phrases = st.lists(st.sampled_from(["two", "lattes", "a", "Chai,", "please", "+"]), max_size=14).map(" ".join)


@given(
    st.lists(phrases, min_size=1, max_size=8),
    st.lists(phrases, min_size=1, max_size=5),
    st.integers(3, 6),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_all_and_only_rows_that_overlap_by_the_definition_go(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    items: list[str],
    span: int,
    overlap: float,
    threshold: float,
) -> None:
    with Session(tmp_path_factory.mktemp("naive"), progress=False, track=False) as session:
        step = Decontaminate(
            rows=table(*texts), against={"t": table(*items)}, span=span, overlap=overlap, threshold=threshold
        )
        made = session.run(step)
    clean = [
        n for n, text in enumerate(texts) if not any(naive(text, item, span, overlap, threshold) for item in items)
    ]
    assert [row["output"] for row in made] == [str(n) for n in clean]


def test_test_sets_may_have_other_columns(session: Session) -> None:
    held_out = Import(data=[{"question": " ".join(TEST[0])}], require=())
    rows = table(" ".join(TEST[0]), " ".join(TEST[1]))
    step = Decontaminate(rows=rows, against={"mmlu": held_out}, test_columns=("question",))
    assert [row["output"] for row in session.run(step)] == ["1"]
    with pytest.raises(RecipeError, match=r"Decontaminate \(mmlu\): there is no column `input`"):
        session.run(Decontaminate(rows=rows, against={"mmlu": held_out}))


def test_nothing_overlaps_with_an_empty_test_set(session: Session) -> None:
    rows = table("a b c", "")
    assert len(session.run(Decontaminate(rows=rows, against={"none": Take(rows=HELD_OUT, num=0)}))) == 2


def test_a_text_without_a_word_stands_in_no_test_set(session: Session) -> None:
    items = Import(
        data=[{"input": "", "output": "1"}, {"input": "…!", "output": "2"}, {"input": "a b c", "output": "3"}]
    )
    made = session.run(Decontaminate(rows=table("", "?!", "a b c", " "), against={"items": items}))
    assert [row["output"] for row in made] == ["0", "1", "3"]
    assert made.record["facts"]["test_sets"]["items"] == {"items": 3, "items_found": 1, "rows": 1}


def test_a_test_set_is_needed() -> None:
    with pytest.raises(RecipeError, match="`against`"):
        Decontaminate(rows=HELD_OUT, against={})
