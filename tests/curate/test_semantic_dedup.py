from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, RecipeError, Rows, Session, Take
from stillhouse.curate._kmeans import clustered, nearest_centre
from stillhouse.curate._semantic_dedup import Alike, unlike
from stillhouse.curate._vectors import normalised
from stillhouse.curate.best_apart import BestApart
from stillhouse.curate.semantic_dedup import SemanticDedup

ANGLES: list[float | None] = [0, 10, 90, 95, 180, 4]


def at(degrees: float) -> list[float]:
    return [3 * float(np.cos(np.radians(degrees))), 3 * float(np.sin(np.radians(degrees)))]


def table(angles: list[float | None], **columns: list[Any]) -> Import:
    rows = [{"input": str(place), "vector": None if angle is None else at(angle)} for place, angle in enumerate(angles)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return Import(data=rows, require=())


def names(rows: Rows) -> list[str]:
    return [row["input"] for row in rows]


def naive(vectors: np.ndarray[Any, Any], order: list[int], threshold: float, most: int | None = None) -> list[int]:
    """The definition, a pair at a time, in float64."""
    exact = vectors.astype(np.float64)
    kept: list[int] = []
    for row in order:
        if most is not None and len(kept) == most:
            break
        if all(float(exact[row] @ exact[other]) < threshold - 1e-6 for other in kept):
            kept.append(row)
    return kept


def test_the_first_of_rows_that_mean_the_same_stays_and_is_named(session: Session) -> None:
    made = session.run(SemanticDedup(rows=table(ANGLES), threshold=0.98))
    assert names(made) == ["0", "2", "4"]
    ids = [row["_id"] for row in session.run(table(ANGLES))]
    assert [(row["reason"], row["detail"]) for row in made.dropped()] == [
        ("means the same", f"as {ids[0]} (cosine 0.985)"),
        ("means the same", f"as {ids[2]} (cosine 0.996)"),
        ("means the same", f"as {ids[0]} (cosine 0.998)"),
    ]


def test_the_longest_or_the_best_may_stay_instead(session: Session) -> None:
    rows = table(ANGLES, text=["a", "aaa", "a", None, "a", "aa"], score=[1, 2, None, 5, 0, 3])
    longest = session.run(SemanticDedup(rows=rows, threshold=0.98, keep="longest", by="text"))
    assert names(longest) == ["1", "2", "4"]
    best = session.run(SemanticDedup(rows=rows, threshold=0.98, keep="best", by="score"))
    assert names(best) == ["3", "4", "5"]


def test_a_row_without_a_vector_is_like_nothing(session: Session) -> None:
    rows = Import(
        data=[{"input": "a", "vector": None}, {"input": "b", "vector": [0.0]}, {"input": "c", "vector": None}],
        require=(),
    )
    assert names(session.run(SemanticDedup(rows=rows))) == ["a", "b", "c"]
    assert names(session.run(SemanticDedup(rows=table([None, 0, 0])))) == ["0", "1"]
    assert len(session.run(SemanticDedup(rows=Take(rows=table([0]), num=0)))) == 0


def test_what_is_no_vector_is_refused_in_plain_words(session: Session) -> None:
    with pytest.raises(RecipeError, match="there is no column `vectr`"):
        session.run(SemanticDedup(rows=table([0]), column="vectr"))
    with pytest.raises(RecipeError, match="holds string, not vectors"):
        session.run(SemanticDedup(rows=table([0]), column="input"))
    mixed = Import(data=[{"vector": [1.0, 2.0]}, {"vector": [1.0]}], require=())
    with pytest.raises(RecipeError, match="have 2 and 1 numbers"):
        session.run(SemanticDedup(rows=mixed))
    with pytest.raises(RecipeError, match="holds what is no finite number"):
        session.run(SemanticDedup(rows=Import(data=[{"vector": [1.0, None]}], require=())))
    with pytest.raises(RecipeError, match="Name in `by` the column"):
        SemanticDedup(rows=table([0]), keep="best")
    with pytest.raises(RecipeError, match="Leave `by` out"):
        SemanticDedup(rows=table([0]), by="input")


@given(st.integers(0, 1000), st.integers(1, 90), st.sampled_from([0.3, 0.7, 0.9, 0.99]), st.integers(1, 40))
def test_blocks_choose_what_a_loop_over_pairs_chooses(seed: int, num: int, threshold: float, most: int) -> None:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(5, 6))
    made = centres[generator.integers(5, size=num)] + 0.25 * generator.normal(size=(num, 6))
    vectors = normalised(made.astype(np.float32))
    order = generator.permutation(num)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stillhouse.curate._semantic_dedup.BLOCK", 7)
        patch.setattr("stillhouse.curate._semantic_dedup.KEPT_BLOCK", 5)
        found = Alike(num)
        assert unlike(vectors, order, threshold, found).tolist() == naive(vectors, order.tolist(), threshold)
        some = unlike(vectors, order, threshold, Alike(num), most)
        assert some.tolist() == naive(vectors, order.tolist(), threshold, most)
    refused = np.flatnonzero(found.of >= 0)
    told = (vectors[refused] * vectors[found.of[refused]]).sum(axis=1)
    assert np.allclose(told, found.score[refused], atol=1e-5)
    assert (found.of[found.of[refused]] < 0).all()


def test_clusters_find_nearly_all_that_all_pairs_find(session: Session) -> None:
    generator = np.random.default_rng(0)
    base = normalised(generator.normal(size=(400, 16)).astype(np.float32))
    copies = normalised(base + 0.02 * generator.normal(size=base.shape).astype(np.float32))
    rows = Import(data=[{"vector": vector.tolist()} for vector in np.concatenate([base, copies])], require=())
    whole = session.run(SemanticDedup(rows=rows, threshold=0.95))
    quick = session.run(SemanticDedup(rows=rows, threshold=0.95, clusters=8))
    assert len(whole) == 400
    assert 400 <= len(quick) <= 412
    assert quick.record["facts"]["clusters"] == 8


def test_clusters_are_found_where_they_are_and_the_same_each_time() -> None:
    generator = np.random.default_rng(1)
    centres = normalised(generator.normal(size=(6, 12)).astype(np.float32))
    true = np.repeat(np.arange(6), 50)
    vectors = normalised(centres[true] + 0.05 * generator.normal(size=(300, 12)).astype(np.float32))
    found = clustered(vectors, 6, seed=3)
    assert [len(np.unique(found.of_row[true == number])) for number in range(6)] == [1] * 6
    assert len(np.unique(found.of_row)) == 6
    assert (clustered(vectors, 6, seed=3).of_row == found.of_row).all()
    assert (nearest_centre(vectors, found.centres) == found.of_row).all()
    assert clustered(vectors[:3], 9, seed=0).centres.shape == (3, 12)
    assert len(np.unique(clustered(np.repeat(vectors[:1], 9, axis=0), 4, seed=0).of_row)) == 1


def test_the_best_rows_are_taken_unless_a_better_one_is_near(session: Session) -> None:
    rows = table(ANGLES, quality=[1.0, 3.0, 2.0, 5.0, None, 0.5], complexity=[2, 1, 1, 1, 1, 2])
    made = session.run(BestApart(rows=rows, by="quality", size=2, threshold=0.98))
    assert names(made) == ["1", "3"]
    reasons = [(row["reason"], row["detail"]) for row in made.dropped()]
    assert reasons == [
        ("better rows fill the size", "score 1"),
        ("better rows fill the size", "score 2"),
        ("there is no score", None),
        ("better rows fill the size", "score 0.5"),
    ]
    both = session.run(BestApart(rows=rows, by=("quality", "complexity"), size=9, threshold=0.98))
    assert names(both) == ["1", "3"]
    ids = [row["_id"] for row in session.run(rows)]
    assert [row["detail"] for row in both.dropped()][1:2] == [f"{ids[3]} (cosine 0.996)"]
    assert next(both.dropped())["reason"] == "too like a better row"
    assert names(session.run(BestApart(rows=rows, by="quality", size=9, threshold=0.99))) == ["0", "1", "3"]


def test_texts_can_be_compared_in_place_of_vectors(session: Session) -> None:
    texts = ["two oat lattes to go please", "two oat lattes to go now", "a plain bagel for my sister"]
    rows = Import(data=[{"input": text, "score": 3 - place} for place, text in enumerate(texts)], require=())
    made = session.run(BestApart(rows=rows, by="score", texts="input", size=3, threshold=0.6))
    assert names(made) == [texts[0], texts[2]]
    with pytest.raises(RecipeError, match="both `column` and `texts`"):
        BestApart(rows=rows, by="score", texts="input", column="vector", size=3)
    with pytest.raises(RecipeError, match="holds string, not numbers"):
        session.run(BestApart(rows=rows, by="input", texts="input", size=3))
