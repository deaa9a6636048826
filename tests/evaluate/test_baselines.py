"""Nearest neighbours, novelty, and the check that seeds do not stand in the test set."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.evaluate._neighbour import Index, ngrams
from stillhouse.evaluate._novelty import Known, skeleton
from stillhouse.evaluate.neighbour import NearestNeighbour
from stillhouse.evaluate.novelty import Novelty
from stillhouse.evaluate.overlap import RefuseOverlap
from stillhouse.rows.import_ import Import

SEEDS = Import(
    data=(
        {"input": "two lattes please", "output": "2 latte"},
        {"input": "a green tea to go", "output": "1 tea"},
        {"input": "three croissants", "output": "3 croissant"},
    )
)


def test_the_neighbour_is_the_most_similar_seed_and_its_output_the_reply(session: Session) -> None:
    test = Import(data=({"input": "Two latte, please!", "output": "x"}, {"input": "croissant", "output": "y"}))
    rows = list(session.run(NearestNeighbour(rows=SEEDS, on=test)))
    assert [row["reply"] for row in rows] == ["2 latte", "3 croissant"]
    assert [row["output"] for row in rows] == ["x", "y"]
    seeds = list(session.run(SEEDS))
    assert [row["neighbour"] for row in rows] == [seeds[0]["_id"], seeds[2]["_id"]]
    assert 0.8 < rows[0]["similarity"] <= 1


def test_a_prediction_descends_from_its_row_and_from_the_seed_that_answered(session: Session) -> None:
    test = Import(data=({"input": "croissant", "output": "y"},))
    answered = session.run(NearestNeighbour(rows=SEEDS, on=test))
    ((row,),) = answered.batches(lineage=True)
    (asked,) = session.run(test)
    assert list(row["_parents"]) == [asked["_id"], row["neighbour"]]


def test_a_seed_is_its_own_neighbour_with_similarity_1(session: Session) -> None:
    rows = list(session.run(NearestNeighbour(rows=SEEDS, on=SEEDS)))
    assert [row["reply"] for row in rows] == [row["output"] for row in rows]
    assert [row["similarity"] for row in rows] == pytest.approx([1, 1, 1])


def test_a_row_that_shares_nothing_gets_the_first_answer_at_similarity_0(session: Session) -> None:
    rows = list(session.run(NearestNeighbour(rows=SEEDS, on=Import(data=({"input": "ψψ", "output": ""},)))))
    assert (rows[0]["reply"], rows[0]["similarity"]) == ("2 latte", 0.0)


def test_seeds_without_answers_are_refused(session: Session) -> None:
    empty = Import(data=({"input": "x", "output": None},), require=("input",))
    with pytest.raises(RecipeError, match="no row with an answer"):
        session.run(NearestNeighbour(rows=empty, on=SEEDS))


TEXTS = st.lists(st.sampled_from(["tea", "teas", "two", "to", "go", "latte", "late", "éclair"]), max_size=5).map(
    " ".join
)


@given(st.lists(TEXTS, min_size=1, max_size=6), TEXTS)
def test_similarities_equal_a_naive_cosine(texts: list[str], asked: str) -> None:
    frequency = Counter(term for text in texts for term in set(ngrams(text, 2, 3)))

    def vector(text: str) -> dict[str, float]:
        idf = {term: 1 + math.log((1 + len(texts)) / (1 + frequency[term])) for term in set(ngrams(text, 2, 3))}
        return {term: (1 + math.log(number)) * idf[term] for term, number in Counter(ngrams(text, 2, 3)).items()}

    def cosine(left: dict[str, float], right: dict[str, float]) -> float:
        norms = math.hypot(*left.values()) * math.hypot(*right.values())
        return sum(left[term] * right[term] for term in left.keys() & right.keys()) / norms if norms else 0.0

    expected = [cosine(vector(asked), vector(text)) for text in texts]
    assert Index(texts, 2, 3).similarities(asked).tolist() == pytest.approx(expected, abs=1e-9)


def test_novelty_tells_unseen_words_from_unseen_wordings(session: Session) -> None:
    training = Import(
        data=(
            {"input": "please bring two lattes to go", "output": "2 lattes"},
            {"input": "please bring three teas to go", "output": "3 teas"},
            {"input": "bring two teas", "output": "2 teas"},
        )
    )
    test = Import(
        data=(
            {"input": "Please bring two teas to go!", "output": ""},
            {"input": "bring teas please", "output": ""},
            {"input": "kindly bring two mochas", "output": ""},
        )
    )
    rows = list(session.run(Novelty(rows=test, against=training)))
    assert [row["novelty"] for row in rows] == ["seen", "unseen skeleton", "unseen words"]
    assert [row["familiar"] for row in rows] == ["seen", "unseen", "unseen"]
    assert [row["unseen_words"] for row in rows] == ["", "", "kindly mochas"]


def test_skeletons_keep_frame_words_and_fold_runs_of_content() -> None:
    frame = frozenset({"can", "i", "have", "please"})
    assert skeleton(["can", "i", "have", "two", "large", "lattes", "please"], frame) == "can i have _ please"
    assert skeleton([], frame) == ""


def test_frame_words_are_frequent_hold_no_digit_and_stand_in_no_answer() -> None:
    known = Known.of([("bring 2 teas now", "2 teas"), ("bring cakes now", "cakes"), ("bring it", None)], frame_words=2)
    assert known.frame == {"bring", "now"}
    assert known.skeletons == {"bring _ now", "bring _"}


def test_training_rows_are_never_new_to_themselves(session: Session) -> None:
    assert {row["novelty"] for row in session.run(Novelty(rows=SEEDS, against=SEEDS))} == {"seen"}


def test_seeds_in_the_test_set_are_refused_whatever_their_punctuation(session: Session) -> None:
    test = Import(data=({"input": "Two lattes, PLEASE.", "output": "x"}, {"input": "one mocha", "output": "y"}))
    with pytest.raises(RecipeError, match="1 rows of the test set stand among the seeds"):
        session.run(RefuseOverlap(rows=test, seeds=SEEDS))


def test_a_clean_test_set_passes_unchanged(session: Session) -> None:
    test = Import(data=({"input": "two lattes for me please", "output": "x"},))
    passed = session.run(RefuseOverlap(rows=test, seeds=SEEDS))
    assert list(passed) == list(session.run(test))


def test_a_missing_column_names_those_that_exist(session: Session) -> None:
    test = Import(data=({"text": "x"},), require=())
    with pytest.raises(RecipeError, match="no column `input`") as caught:
        session.run(RefuseOverlap(rows=test, seeds=SEEDS))
    assert "`text`" in str(caught.value)
