"""`RAG` and `FewShotWithRetrieval`: what is nearest stands in the question, as much of it as fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import stillhouse as sh
from stillhouse.calls.ask import Ask
from stillhouse.calls.bm25 import Bm25
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.providers.embed_python import script_vectors
from stillhouse.calls.providers.scripted import Scripted, script
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.few_shot_with_retrieval import FewShotWithRetrieval
from stillhouse.generate.index import Index
from stillhouse.generate.rag import RAG

HASH = Embedder(model="hash:128")
DOCS = [
    {"title": "returns", "text": "Shoes that do not fit can be returned within thirty days."},
    {"title": "metals", "text": "Tungsten melts at 3422 degrees."},
    {"title": "orders", "text": "An order can be changed until it is packed."},
]
QUESTIONS = [{"question": "Can I return shoes which do not fit?"}, {"question": "When does tungsten melt?"}]
EXAMPLES = [
    {"input": "two red apples", "output": "2"},
    {"input": "seven red apples", "output": "7"},
    {"input": "a blue boat at sea", "output": "1"},
    {"input": "nine blue boats at sea", "output": "9"},
]


def table(rows: list[dict[str, Any]]) -> sh.Import:
    return sh.Import(data=rows, require=())


def asked(script: Scripted) -> list[str]:
    return [str(request.messages[-1]["content"]) for request in script.requests]


@pytest.fixture
def model() -> Scripted:
    return script("model", lambda messages, schema, sample: f"reply {sample}")


BY = Ask(model="scripted:model")


def test_passages_stand_in_the_question_with_their_numbers(session: Session, model: Scripted) -> None:
    docs = table(DOCS)
    made = session.run(RAG(rows=table(QUESTIONS), by=BY, index=Index(rows=docs, by=HASH), most=2))
    ids = {row["title"]: row["_id"] for row in session.run(docs)}
    first, second = asked(model)
    assert first.index("[1] Shoes that do not fit") < first.index("[2] ") < first.index("Question: Can I return")
    assert first.endswith("Answer:")
    assert "[1] Tungsten melts" in second
    assert "[3]" not in first
    rows = next(made.batches(lineage=True))
    assert [row["answer"] for row in rows] == ["reply 0", "reply 0"]
    assert [row["sources"][0] for row in rows] == [ids["returns"], ids["metals"]]
    for row, question in zip(rows, session.run(table(QUESTIONS)), strict=True):
        assert row["_parents"] == [question["_id"], *row["sources"]]
        assert len(row["_calls"]) == 1


def test_as_many_passages_are_shown_as_fit(session: Session, model: Scripted) -> None:
    docs = table([{"text": f"shoes fit {'and ' * size}end"} for size in (5, 200, 10, 15)])
    index = Index(rows=docs, by=HASH)
    rows = table([{"question": "shoes fit"}])
    for tokens in (30, 50, 400):
        session.run(RAG(rows=rows, by=BY, index=index, tokens=tokens, instruction="Say."))
    shown = [text.count("shoes fit") - 1 for text in asked(model)]
    assert shown == [1, 2, 4]
    for text, tokens in zip(asked(model), (30, 50, 400), strict=True):
        assert len(text.encode()) <= 3 * tokens
        assert "[1] " in text
    failed = session.run(RAG(rows=table([*QUESTIONS, {"question": "shoes " * 400}]), by=BY, index=index, tokens=300))
    assert [row["kind"] for row in failed.failed()] == ["too_long"]
    assert "without any passage it is longer" in next(failed.failed())["message"]


def test_a_question_that_nothing_is_near_to_is_not_asked(session: Session, model: Scripted) -> None:
    index = Index(rows=table(DOCS), by=Bm25())
    rows = table([*QUESTIONS, {"question": "xyzzy"}])
    made = session.run(RAG(rows=rows, by=BY, index=index, near=0.3))
    assert len(made) == 2
    assert [row["kind"] for row in made.failed()] == ["empty"]
    assert model.num_calls == 2
    free = session.run(RAG(rows=table([{"question": "xyzzy"}]), by=BY, index=index, least=0))
    assert free.head(1)[0]["sources"] == []


def test_samples_and_schemas(session: Session) -> None:
    script("model", lambda messages, schema, sample: json.dumps({"said": sample}))
    schema = sh.Schema({"title": "Said", "type": "object", "properties": {"said": {"type": "integer"}}})
    index = Index(rows=table(DOCS), by=HASH)
    by = BY.replace(temperature=0.7)
    made = session.run(RAG(rows=table(QUESTIONS), by=by, index=index, response=schema, unpack=True, samples=2))
    assert [(row["said"], row["sample"]) for row in made] == [(0, 0), (1, 1)] * 2


def test_the_calls_of_query_and_answer_stand_in_the_lineage(session: Session, model: Scripted) -> None:
    script_vectors("vectors", lambda text: [float(len(text)), 1.0])
    index = Index(rows=table(DOCS), by=Embedder(model="scripted:vectors"))
    made = session.run(RAG(rows=table(QUESTIONS), by=BY, index=index))
    assert [len(row["_calls"]) for row in next(made.batches(lineage=True))] == [2, 2]


def test_the_nearest_examples_are_shown_the_nearest_last(session: Session, model: Scripted) -> None:
    examples = table(EXAMPLES)
    index = Index(rows=examples, by=HASH, column="input")
    rows = table([{"input": "eight red apples"}, {"input": "a blue boat"}])
    made = session.run(FewShotWithRetrieval(rows=rows, by=BY, index=index, most=2, instruction="Count."))
    first, second = asked(model)
    assert first.startswith("Count.\n\nInput: ")
    assert "red apples" in first
    assert "boat" not in first
    assert second.rindex("a blue boat at sea") > second.rindex("nine blue boats")
    assert second.endswith("Input: a blue boat\nOutput:")
    ids = {row["input"]: row["_id"] for row in session.run(examples)}
    last = next(made.batches(lineage=True))[1]
    assert last["_parents"][1:] == [ids["nine blue boats at sea"], ids["a blue boat at sea"]]
    session.run(FewShotWithRetrieval(rows=rows, by=BY, index=index, most=2, nearest_last=False))
    assert asked(model)[3].index("a blue boat at sea") < asked(model)[3].index("nine blue boats")


def test_a_row_is_never_its_own_example(session: Session, model: Scripted) -> None:
    twice = [*EXAMPLES, {**EXAMPLES[0], "note": "again"}]
    rows = table([{**row, "note": row.get("note")} for row in twice])
    index = Index(rows=rows, by=HASH, column="input", keep=("input", "output"))
    session.run(FewShotWithRetrieval(rows=rows, by=BY, index=index, column="again", most=4, candidates=5))
    for row, text in zip(twice, asked(model), strict=False):
        assert text.count(f"Input: {row['input']}\n") == 1


def test_what_cannot_be_says_why(session: Session, model: Scripted) -> None:
    rows, index = table(QUESTIONS), Index(rows=table(DOCS), by=HASH, keep=("title",))
    with pytest.raises(RecipeError, match=r"RAG: the index keeps no column `text`\n  It keeps `title`"):
        session.run(RAG(rows=rows, by=BY, index=index))
    with pytest.raises(RecipeError, match=r"keeps no column `input`"):
        session.run(FewShotWithRetrieval(rows=table(EXAMPLES), by=BY, index=index, column="again"))
    with pytest.raises(RecipeError, match="fewer than `most`"):
        RAG(rows=rows, by=BY, index=index, most=5, candidates=3)
    with pytest.raises(RecipeError, match="have a column `question` already"):
        session.run(RAG(rows=rows, by=BY, index=Index(rows=table(DOCS), by=HASH), column="question"))
    assert model.num_calls == 0


def test_two_corpora_give_two_answers(tmp_path: Path) -> None:
    script("model", lambda messages, schema, sample: messages[-1]["content"].partition("[1] ")[2].split(".")[0])
    other = [{**row, "text": row["text"].replace("thirty", "ninety")} for row in DOCS]
    with Session(tmp_path, progress=False, track=False) as session:
        found = [
            session.run(RAG(rows=table(QUESTIONS), by=BY, index=Index(rows=table(docs), by=HASH))).head(1)[0]["answer"]
            for docs in (DOCS, other, DOCS)
        ]
    assert ["thirty" in text for text in found] == [True, False, True]
