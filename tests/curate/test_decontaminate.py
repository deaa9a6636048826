from __future__ import annotations

import json

import pytest

from stillhouse import Decontaminate, Import, RecipeError, Session, Take

from .test_dedup import changed, sentence

TEST = [sentence(30, 100 + number) for number in range(20)]


def table(*texts: str) -> Import:
    return Import(data=[{"input": text, "output": str(n)} for n, text in enumerate(texts)])


HELD_OUT = table(*(" ".join(words) for words in TEST), "two lattes to go")


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
        {"test_set": "held_out", "test_row": items[3], "shared": None, "jaccard": 1.0},
    )
    assert dropped[1][0] == "nearly stands in the test set `held_out`"
    assert dropped[1][1]["test_row"] == items[4]
    assert dropped[1][1]["jaccard"] == round(25 / 31, 4)
    assert dropped[2] == (
        "shares a run of words with the test set `held_out`",
        {"test_set": "held_out", "test_row": items[5], "shared": " ".join(TEST[5][8:20]), "jaccard": None},
    )
    assert dropped[3][1]["test_row"] == items[20]


@pytest.mark.parametrize(("num_words", "kept"), [(9, 1), (10, 0)])
def test_a_span_counts_from_its_length_on(session: Session, num_words: int, kept: int) -> None:
    rows = table(" ".join([*sentence(20, 1), *TEST[0][:num_words], *sentence(20, 2)]))
    assert len(session.run(Decontaminate(rows=rows, against={"held_out": HELD_OUT}))) == kept


def test_each_test_set_is_told_by_its_name(session: Session) -> None:
    first, second = Take(rows=HELD_OUT, num=10), HELD_OUT
    rows = table(" ".join(TEST[2]), " ".join(TEST[12]))
    made = session.run(Decontaminate(rows=rows, against={"first": first, "second": second}))
    assert [row["reason"] for row in made.dropped()] == ["is in the test set `first`", "is in the test set `second`"]


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


def test_a_test_set_is_needed() -> None:
    with pytest.raises(RecipeError, match="`against`"):
        Decontaminate(rows=HELD_OUT, against={})
