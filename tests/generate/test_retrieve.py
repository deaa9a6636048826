"""`Index` and `Retrieve`: the nearest rows of a corpus, exactly, by meaning or by words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stillhouse as sh
from stillhouse.calls.bm25 import Bm25
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.providers.embed_python import script_vectors
from stillhouse.calls.retry import TryAgain
from stillhouse.core.errors import Interrupted, ModelError, RecipeError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.generate.embed import Embed
from stillhouse.generate.index import Hnsw, Index
from stillhouse.generate.retrieve import Retrieve

HASH = Embedder(model="hash:128")
DOCS: list[dict[str, Any]] = [
    {"title": "returns", "text": "Shoes that do not fit can be returned within thirty days."},
    {"title": "metals", "text": "Tungsten melts at 3422 degrees."},
    {"title": "orders", "text": "An order can be changed until it is packed."},
    {"title": "nothing", "text": None},
]
QUESTIONS: list[dict[str, Any]] = [
    {"query": "Can I return shoes which do not fit?"},
    {"query": "At what degrees does tungsten melt?"},
]


def table(rows: list[dict[str, Any]]) -> sh.Import:
    return sh.Import(data=rows, require=())


@pytest.mark.parametrize("by", [HASH, Bm25()])
def test_what_is_nearest_is_found_with_its_score_and_lineage(session: Session, by: Any) -> None:
    docs = table(DOCS)
    made = session.run(Retrieve(rows=table(QUESTIONS), index=Index(rows=docs, by=by), k=2))
    ids = {row["title"]: row["_id"] for row in session.run(docs)}
    rows = next(made.batches(lineage=True))
    first = [row["retrieved"][0] for row in rows]
    assert [hit["row"] for hit in first] == DOCS[:2]
    assert [hit["id"] for hit in first] == [ids["returns"], ids["metals"]]
    questions = [row["_id"] for row in session.run(table(QUESTIONS))]
    for row, question in zip(rows, questions, strict=True):
        found = [hit["id"] for hit in row["retrieved"]]
        assert row["_parents"] == [question, *found]
        scores = [hit["score"] for hit in row["retrieved"]]
        assert scores == sorted(scores, reverse=True)
    index = session.run(Index(rows=docs, by=by))
    assert index.record["facts"]["rows"] == 3
    assert sum(index.record["facts"]["left_out"].values()) == 1


def test_two_corpora_never_share_results(session: Session) -> None:
    """Their rows may even have the same ids' order, count and embedder: what counts is their content."""
    one = table([{"text": "red cat"}, {"text": "blue dog"}])
    two = table([{"text": "red car"}, {"text": "blue dot"}])
    made = []
    for docs in (one, two, one):
        found = session.run(Retrieve(rows=table([{"query": "the red one"}]), index=Index(rows=docs, by=HASH), k=1))
        made.append(found.head(1)[0]["retrieved"][0]["row"]["text"])
    assert made == ["red cat", "red car", "red cat"]
    assert session.run(Index(rows=one, by=HASH)).key != session.run(Index(rows=two, by=HASH)).key


def test_a_changed_embedder_is_another_index_and_other_results(session: Session) -> None:
    docs, queries = table(DOCS), table(QUESTIONS)
    keys = set()
    for by in (
        HASH,
        HASH.replace(document="x "),
        HASH.replace(query="x "),
        Embedder(model="hash:64"),
        Bm25(),
        Bm25(b=0),
    ):
        found = session.run(Retrieve(rows=queries, index=Index(rows=docs, by=by)))
        keys.add(found.key)
    assert len(keys) == 6


def test_results_are_those_of_plain_arithmetic(session: Session) -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(60)]
    docs = [{"text": " ".join(rng.choices(words, k=6))} for _ in range(300)]
    queries = [{"query": " ".join(rng.choices(words, k=4))} for _ in range(40)]
    found = session.run(Retrieve(rows=table(queries), index=Index(rows=table(docs), by=HASH), k=7, columns=("text",)))
    left = _vectors(session, queries, "query")
    right = _vectors(session, docs, "text")
    exact = np.round(left @ right.T, 7)
    for row, own in zip(found, exact, strict=True):
        order = sorted(range(300), key=lambda place: (-own[place], place))[:7]
        np.testing.assert_allclose([hit["score"] for hit in row["retrieved"]], own[order], atol=2e-7)
        assert len({hit["row"]["text"] for hit in row["retrieved"]} & {docs[place]["text"] for place in order}) >= 6


def _vectors(session: Session, rows: list[dict[str, Any]], column: str) -> Any:
    made = session.run(Embed(rows=table(rows), by=HASH, column=column))
    array = np.array([row["vector"] for row in made], np.float64)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_vectors_that_are_given_are_searched_as_they_are(session: Session) -> None:
    docs = table(
        [{"name": name, "v": vector} for name, vector in (("east", [2, 0]), ("north", [0, 5]), ("none", None))]
    )
    queries = table([{"v": [3.0, 1.0], "q": "x"}, {"v": [0.1, 0.9], "q": "y"}])
    index = Index(rows=docs, by=None, column="v")
    found = session.run(Retrieve(rows=queries, index=index, column="v", k=9))
    assert [[hit["row"]["name"] for hit in row["retrieved"]] for row in found] == [["east", "north"], ["north", "east"]]
    assert found.head(1)[0]["retrieved"][0]["score"] == pytest.approx(3 / 10**0.5, abs=1e-7)
    with pytest.raises(RecipeError, match=r"`q` holds no vectors\n  Add them with `Embed`"):
        session.run(Retrieve(rows=queries, index=index, column="q"))
    wide = table([{"v": [1.0, 2.0, 3.0]}])
    with pytest.raises(RecipeError, match="have 3 numbers, those of the index 2"):
        session.run(Retrieve(rows=wide, index=index, column="v"))


def test_a_row_does_not_find_itself_and_weak_finds_are_left(session: Session) -> None:
    docs = table([{"text": text} for text in ("red cat", "red cats", "blue dog", "red cat!")])
    index = Index(rows=docs, by=HASH)
    found = list(session.run(Retrieve(rows=docs, index=index, column="text", k=1, apart=True, into="near")))
    nearest = [row["near"][0]["row"]["text"] for row in found]
    assert [nearest[0], nearest[1], nearest[3]] == ["red cat!", "red cat", "red cat"]
    assert all(row["near"][0]["id"] != own["_id"] for row, own in zip(found, session.run(docs), strict=True))
    strict = session.run(Retrieve(rows=docs, index=index, column="text", k=3, least=0.9, apart=True, columns=()))
    assert [len(row["retrieved"]) for row in strict] == [1, 0, 0, 1]
    assert set(strict.head(1)[0]["retrieved"][0]) == {"id", "score"}


def test_rows_without_a_question_fail_alone(session: Session) -> None:
    queries = table([*QUESTIONS, {"query": ""}, {"query": None}, *QUESTIONS])
    for by in (HASH, Bm25()):
        found = session.run(Retrieve(rows=queries, index=Index(rows=table(DOCS), by=by)))
        assert len(found) == 4
        assert len(list(found.failed())) == 2


def test_an_index_is_made_once_for_all_that_search_it(session: Session) -> None:
    asked = script_vectors("vectors", lambda text: [float(len(text)), 1.0])
    index = Index(rows=table(DOCS), by=Embedder(model="scripted:vectors"))
    session.run(Retrieve(rows=table(QUESTIONS), index=index))
    before = len(asked.texts)
    session.run(Retrieve(rows=table(QUESTIONS), index=index, k=1))
    assert (before, len(asked.texts)) == (5, 5)


def test_an_index_goes_on_after_an_interruption_without_paying_twice(tmp_path: Path) -> None:
    asked = script_vectors("vectors", lambda text: [float(len(text)), 1.0])
    docs = table([{"text": f"text {number}"} for number in range(6000)])
    step = Index(rows=docs, by=Embedder(model="scripted:vectors"))

    def stop(event: Event) -> None:
        if event.kind == "step.progress" and event.data["tag"] == Index.tag:
            session.stop()

    with Session(tmp_path / "a", progress=False, track=False, on_event=stop) as session, pytest.raises(Interrupted):
        session.run(step)
    assert 0 < len(asked.texts) < 6000
    with Session(tmp_path / "a", progress=False, track=False) as session:
        digest = session.run(step).digest
    assert len(asked.texts) == 6000
    with Session(tmp_path / "b", progress=False, track=False) as session:
        assert session.run(step).digest == digest


def test_an_index_with_a_hole_is_none(tmp_path: Path) -> None:
    failures: dict[int, Exception] = dict.fromkeys(range(5), TryAgain("server", "down", wait=0.001))
    script_vectors("vectors", lambda text: [1.0, float(len(text))], failures=failures)
    step = Index(rows=table(DOCS), by=Embedder(model="scripted:vectors"))
    with Session(tmp_path, progress=False, track=False) as session:
        with pytest.raises(ModelError, match="a row of the index got no vector"):
            session.run(step)
        assert session.run(step).record["facts"]["rows"] == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"column": "txt"}, r"no column `txt`\n  Did you mean `text`"),
        ({"keep": ("author",)}, r"`keep` names `author`"),
        ({"by": None}, "holds no vectors"),
        ({"column": "v"}, "holds vectors"),
        ({"rows": table([{"text": ""}])}, "no row can be found by `text`"),
    ],
)
def test_an_index_that_cannot_be_says_why(session: Session, changes: dict[str, Any], words: str) -> None:
    docs = table([{**row, "v": [1.0]} for row in DOCS])
    with pytest.raises(RecipeError, match=words):
        session.run(Index(**{"rows": docs, "by": HASH, **changes}))


def test_what_is_no_index_is_told(session: Session) -> None:
    with pytest.raises(RecipeError, match="is no index"):
        session.run(Retrieve(rows=table(QUESTIONS), index=sh.Export(rows=table(QUESTIONS))))
    index = Index(rows=table(DOCS), by=HASH, keep=("title",))
    with pytest.raises(RecipeError, match=r"keeps no column `text`\n  It keeps `title`"):
        session.run(Retrieve(rows=table(QUESTIONS), index=index, columns=("text",)))
    with pytest.raises(RecipeError, match="for vectors"):
        Index(rows=table(DOCS), by=Bm25(), approximate=Hnsw())


def test_a_graph_finds_nearly_all_that_the_exact_search_finds(session: Session) -> None:
    pytest.importorskip("usearch")
    rng = random.Random(1)
    words = [f"word{number}" for number in range(200)]
    docs = table([{"text": " ".join(rng.choices(words, k=8))} for _ in range(3000)])
    queries = table([{"query": " ".join(rng.choices(words, k=6))} for _ in range(50)])
    exact = session.run(Retrieve(rows=queries, index=Index(rows=docs, by=HASH), k=5))
    index = Index(rows=docs, by=HASH, approximate=Hnsw())
    near = session.run(Retrieve(rows=queries, index=index, k=5))
    both = 0
    for left, right in zip(exact, near, strict=True):
        scores = {hit["id"]: hit["score"] for hit in left["retrieved"]}
        own = {hit["id"]: hit["score"] for hit in right["retrieved"]}
        both += len(scores.keys() & own.keys())
        assert all(own[key] == scores[key] for key in scores.keys() & own.keys())
    assert both >= 0.95 * 250
    again = session.run(Index(rows=docs, by=HASH, approximate=Hnsw(), keep=("text",)))
    assert (again.data / "graph.usearch").read_bytes() == (session.run(index).data / "graph.usearch").read_bytes()
