from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, RecipeError, Session, Take
from stillhouse.curate._diverse_subset import facility_location, k_centre
from stillhouse.curate._vectors import Vectors, normalised
from stillhouse.curate.diverse_subset import DiverseSubset


def points(seed: int, num: int, width: int = 4) -> Vectors:
    generator = np.random.default_rng(seed)
    return normalised(generator.normal(size=(num, width)).astype(np.float32))


def covered(vectors: Vectors, chosen: Any) -> float:
    """The objective as it is defined, in float64."""
    exact = vectors.astype(np.float64)
    return float(np.maximum(exact @ exact[list(chosen)].T, 0).max(axis=1).sum())


def radius(vectors: Vectors, chosen: Any) -> float:
    """The largest distance from a row to the nearest chosen one."""
    exact = vectors.astype(np.float64)
    distances = np.linalg.norm(exact[:, None] - exact[list(chosen)][None], axis=2)
    return float(distances.min(axis=1).max())


def greedy(vectors: Vectors, size: int) -> list[int]:
    """The greedy algorithm as it is defined: every row looked at every time."""
    chosen: list[int] = []
    for _ in range(size):
        left = [row for row in range(len(vectors)) if row not in chosen]
        chosen.append(max(left, key=lambda row: (round(covered(vectors, [*chosen, row]), 5), -row)))
    return chosen


@given(st.integers(0, 10_000), st.integers(2, 11), st.data())
def test_facility_location_keeps_its_guarantee(seed: int, num: int, data: st.DataObject) -> None:
    vectors, size = points(seed, num), data.draw(st.integers(1, min(4, num)))
    chosen = facility_location(vectors, vectors, size)
    best = max(covered(vectors, subset) for subset in combinations(range(num), size))
    assert len(set(chosen.tolist())) == size
    assert covered(vectors, chosen) >= (1 - 1 / np.e) * best - 1e-6


@given(st.integers(0, 10_000), st.integers(2, 70), st.integers(1, 12))
def test_looking_at_fewer_rows_chooses_as_much_as_looking_at_all(seed: int, num: int, size: int) -> None:
    vectors, size = points(seed, num), min(size, num)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stillhouse.curate._diverse_subset.TOGETHER", 4)
        chosen = facility_location(vectors, vectors, size)
    assert covered(vectors, chosen) == pytest.approx(covered(vectors, greedy(vectors, size)), abs=1e-3)


@given(st.integers(0, 10_000), st.integers(2, 11), st.data())
def test_k_centre_is_at_most_twice_the_best(seed: int, num: int, data: st.DataObject) -> None:
    vectors, size = points(seed, num), data.draw(st.integers(1, min(4, num)))
    chosen = k_centre(vectors, size)
    best = min(radius(vectors, subset) for subset in combinations(range(num), size))
    assert len(set(chosen.tolist())) == size
    assert radius(vectors, chosen) <= 2 * best + 1e-3


def test_stochastic_greedy_comes_near_to_greedy() -> None:
    vectors = points(5, 400, 16)
    whole = covered(vectors, facility_location(vectors, vectors, 20))
    some = facility_location(vectors, vectors, 20, epsilon=0.1, seed=1)
    assert covered(vectors, some) >= 0.95 * whole
    assert some.tolist() == facility_location(vectors, vectors, 20, epsilon=0.1, seed=1).tolist()
    assert some.tolist() != facility_location(vectors, vectors, 20, epsilon=0.1, seed=2).tolist()
    assert len(set(facility_location(vectors, vectors, 400, epsilon=0.5).tolist())) == 400


def test_a_subset_beats_a_random_one_at_what_it_is_for(session: Session) -> None:
    generator = np.random.default_rng(0)
    sizes = [200, 30, 10, 5, 1]
    centres = points(1, 5, 8)
    vectors = normalised(np.repeat(centres, sizes, axis=0) + 0.05 * generator.normal(size=(246, 8)).astype(np.float32))
    kind = np.repeat(np.arange(5), sizes).tolist()
    rows = Import(data=[{"kind": k, "vector": v.tolist()} for k, v in zip(kind, vectors, strict=True)], require=())
    for method in ("facility_location", "k_centre"):
        made = session.run(DiverseSubset(rows=rows, size=5, method=method))
        assert {row["kind"] for row in made} == {0, 1, 2, 3, 4}
        dropped = list(made.dropped())
        assert len(dropped) == 241
        assert {row["reason"] for row in dropped} == {"stood for by another"}
        ids = {row["_id"] for row in made}
        assert all(row["detail"].split(" ")[0] in ids for row in dropped)
        assert made.record["facts"]["least_cosine"] > 0.9
    few = session.run(DiverseSubset(rows=rows, size=0.05, cover=50, epsilon=0.2))
    assert len(few) == 12


def test_texts_serve_where_there_are_no_vectors(session: Session) -> None:
    texts = ["two oat lattes to go", "two oat lattes to go please", "a plain bagel for her", "a plain bagel for him"]
    rows = Import(data=[{"input": text} for text in texts], require=())
    made = [row["input"] for row in session.run(DiverseSubset(rows=rows, texts="input", size=2))]
    assert {text.split()[-3] for text in made} == {"lattes", "bagel"} or len({text[:3] for text in made}) == 2


def test_sizes_and_fields_that_make_no_sense_are_refused(session: Session) -> None:
    rows = Import(data=[{"vector": [1.0, 0.0]}, {"vector": [0.0, 1.0]}], require=())
    with pytest.raises(RecipeError, match="a share of 0.1 is none"):
        session.run(DiverseSubset(rows=rows, size=0.1))
    with pytest.raises(RecipeError, match="are for facility location"):
        DiverseSubset(rows=rows, size=1, method="k_centre", cover=5)
    with pytest.raises(RecipeError, match="both `column` and `texts`"):
        DiverseSubset(rows=rows, size=1, column="vector", texts=("input",))
    assert len(session.run(DiverseSubset(rows=rows, size=9))) == 2
    assert len(session.run(DiverseSubset(rows=Take(rows=rows, num=0), size=2))) == 0
