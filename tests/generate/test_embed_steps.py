"""`Embed` and `CosineSimilarity`: columns of vectors, and what they say of each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stillhouse as sh
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.providers.embed_python import script_vectors
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.embed import CosineSimilarity, Embed

BY = Embedder(model="scripted:vectors")
HASH = Embedder(model="hash:64")


def table(*rows: dict[str, Any]) -> sh.Import:
    return sh.Import(data=list(rows), require=())


def numbers(text: str) -> list[float]:
    return [float(text.count(letter)) for letter in "abc"]


def test_vectors_are_a_column_of_float32(session: Session) -> None:
    asked = script_vectors("vectors", numbers)
    made = session.run(Embed(rows=table({"text": "aab"}, {"text": "c"}, {"text": "aab"}), by=BY))
    assert made.schema.field("vector").type == pa.list_(pa.float32())
    first = [2 / 5**0.5, 1 / 5**0.5, 0.0]
    np.testing.assert_allclose([row["vector"] for row in made], [first, [0.0, 0.0, 1.0], first], rtol=1e-6)
    assert asked.texts == ["aab", "c"]
    rows = next(made.batches(lineage=True))
    assert all(len(row["_calls"]) == 1 and len(row["_parents"]) == 1 for row in rows)
    assert made.record["calls"]["total"]["calls"] == 1


def test_rows_without_a_text_fail_and_take_no_other_along(session: Session) -> None:
    rows = table({"text": None}, {"text": "a"}, {"text": " "}, {"text": "b"}, {"text": "cc"})
    script_vectors("vectors", numbers)
    made = session.run(Embed(rows=rows, by=BY))
    assert [row["text"] for row in made] == ["a", "b", "cc"]
    assert ["has nothing in `text`" in row["message"] for row in made.failed()] == [True, True]


def test_a_second_session_asks_for_nothing(tmp_path: Path) -> None:
    asked = script_vectors("vectors", numbers)
    rows = table(*({"text": f"a{number}"} for number in range(30)))
    with Session(tmp_path / "one", progress=False, track=False) as session:
        first = session.run(Embed(rows=rows, by=BY))
        again = session.run(Embed(rows=rows, by=BY, into="other"))
        assert [row["vector"] for row in first] == [row["other"] for row in again]
    assert len(asked.texts) == 30


def test_changed_columns_models_and_instructions_are_other_vectors(session: Session) -> None:
    rows = table({"text": "return the shoes", "title": "shoes"})
    steps = [
        Embed(rows=rows, by=HASH),
        Embed(rows=rows, by=HASH, column="title"),
        Embed(rows=rows, by=Embedder(model="hash:32")),
        Embed(rows=rows, by=HASH.replace(document="A document: ")),
        Embed(rows=rows, by=HASH.replace(query="A question: "), role="query"),
        Embed(rows=rows, by=HASH.replace(normalise=False)),
    ]
    assert len({step.recipe_key for step in steps}) == len(steps)
    made = [session.run(step).head(1)[0]["vector"] for step in steps]
    assert len({tuple(vector) for vector in made[:5]}) == 5


def test_wrong_columns_are_named(session: Session) -> None:
    rows = table({"text": "a", "vector": "taken"})
    with pytest.raises(RecipeError, match=r"no column `txt`\n  Did you mean `text`"):
        session.run(Embed(rows=rows, by=HASH, column="txt", into="other"))
    with pytest.raises(RecipeError, match="have a column `vector` already"):
        session.run(Embed(rows=rows, by=HASH))


def test_a_model_that_gives_nothing_but_trouble_stops_the_step(session: Session) -> None:
    def refuse(text: str) -> list[float]:
        raise sh.RowFault("rejected", "no such parameter")

    asked = script_vectors("vectors", refuse)
    with pytest.raises(ModelError, match="no such parameter"):
        session.run(Embed(rows=table(*({"text": f"{number}"} for number in range(500))), by=BY))
    assert len(asked.calls) < 45


def test_a_plan_says_what_vectors_take(session: Session) -> None:
    plan = session.plan(Embed(rows=table({"text": "a"}), by=Embedder(model="openai/text-embedding-3-small")))
    assert plan.total("calls") == 1
    assert session.plan(Embed(rows=table({"text": "a"}), by=HASH)).total("cost_usd") == 0


# cosines


def test_cosines_of_texts_and_of_vectors_agree(session: Session) -> None:
    rows = table({"left": "red cat", "right": "a red cat"}, {"left": "red cat", "right": "blue"})
    texts = CosineSimilarity(rows=rows, left="left", right="right", by=HASH)
    vectors = Embed(rows=Embed(rows=rows, by=HASH, column="left", into="l"), by=HASH, column="right", into="r")
    mixed = CosineSimilarity(rows=vectors, left="l", right="right", by=HASH)
    given = CosineSimilarity(rows=vectors, left="l", right="r")
    made = [[row["similarity"] for row in session.run(step)] for step in (texts, mixed, given)]
    assert made[0] == made[1] == made[2]
    assert made[0][0] > 0.5 > made[0][1]


def test_a_query_may_have_an_instruction_of_its_own(session: Session) -> None:
    asked = script_vectors("vectors", numbers)
    by = BY.replace(query="abc: ")
    rows = table({"left": "a", "right": "aa"})
    session.run(CosineSimilarity(rows=rows, left="left", right="right", by=by, symmetrical=False))
    assert sorted(asked.texts) == ["aa", "abc: a"]


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_cosines_are_those_of_float64(tmp_path_factory: pytest.TempPathFactory, seed: int, dimensions: int) -> None:
    draws = np.random.default_rng(seed)
    left = (draws.normal(size=(5, dimensions)) * 10 ** draws.uniform(-3, 3, (5, 1))).astype(np.float32)
    right = draws.normal(size=(5, dimensions)).astype(np.float32)
    left[0] = 0
    right[1] = -3 * left[1]
    data = [{"l": own.tolist(), "r": other.tolist()} for own, other in zip(left, right, strict=True)]
    with Session(tmp_path_factory.mktemp("store"), progress=False, track=False) as session:
        made = [row["similarity"] for row in session.run(CosineSimilarity(rows=table(*data), left="l", right="r"))]
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        exact = np.nan_to_num((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(made, exact, atol=6e-8)
    assert made[0] == 0.0
    assert made[1] == -1.0


def test_what_cannot_be_compared_says_why(session: Session) -> None:
    rows = table({"left": "a", "right": "b", "short": [1.0, 2.0], "long": [1.0, 2.0, 3.0]})
    with pytest.raises(RecipeError, match=r"no vectors, and no embedder"):
        session.run(CosineSimilarity(rows=rows, left="left", right="right"))
    with pytest.raises(RecipeError, match=r"of `short` have 2 numbers, those of `long` 3"):
        session.run(CosineSimilarity(rows=rows, left="short", right="long"))
    with pytest.raises(RecipeError, match="which is 1 to itself"):
        CosineSimilarity(rows=rows, left="left", right="left")
