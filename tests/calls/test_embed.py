"""Vectors of texts: kept by text, asked in batches, retried, paid once, whoever makes them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.budget import Budget
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.embedding import Vectors
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.embed_hash import hashed_vectors
from stillhouse.calls.providers.embed_protocol import Limits
from stillhouse.calls.providers.embed_python import script_vectors
from stillhouse.calls.service import CallService
from stillhouse.core.errors import BudgetError, ModelError, RecipeError, RowFault
from tests.calls.helpers import with_service
from tests.calls.vector_server import Asked, Told, VectorServer, error, vector

SCRIPTED = Embedder(model="scripted:vectors", normalise=False)


def numbers(text: str) -> list[float]:
    return [float(len(text)), 1.0]


def embed(folder: Path, by: Embedder, texts: Sequence[str], role: Any = "document", **settings: Any) -> Vectors:
    return with_service(folder, lambda service: service.vectors(by, texts, role), **settings)


def at(server: VectorServer, **fields: Any) -> Embedder:
    return Embedder(**{"model": "openai/vectors", "endpoint": server.url, "normalise": False, **fields})


def test_a_text_is_asked_for_once_and_never_again(tmp_path: Path) -> None:
    asked = script_vectors("vectors", numbers)
    first = embed(tmp_path, SCRIPTED, ["a", "bb", "a", "", "bb"])
    assert first.array.tolist() == [[1, 1], [2, 1], [1, 1], [0, 1], [2, 1]]
    assert first.array.dtype == np.float32
    assert sorted(asked.texts) == ["", "a", "bb"]
    again = embed(tmp_path, SCRIPTED, ["bb", "ccc", "a"])
    assert again.array.tolist() == [[2, 1], [3, 1], [1, 1]]
    assert asked.texts[3:] == ["ccc"]
    assert again.calls(0) == first.calls(1)


def test_batches_are_bounded_by_number_and_length_and_are_in_flight_together(tmp_path: Path) -> None:
    asked = script_vectors("vectors", numbers, latency=0.05, limits=Limits(4, 20))
    texts = [f"text {number}" for number in range(10)] + ["long " * 30, "long one " * 30]
    found = embed(tmp_path, SCRIPTED, texts)
    assert found.array[:, 0].tolist() == [len(text) for text in texts]
    assert [len(call) for call in asked.calls] == [4, 4, 2, 1, 1]
    assert asked.peak_in_flight > 1


def test_equal_texts_of_several_callers_at_once_are_one(tmp_path: Path) -> None:
    asked = script_vectors("vectors", numbers, latency=0.05)

    async def work(service: CallService) -> list[Any]:
        return list(
            await asyncio.gather(*(service.scope(f"{n}").embed(SCRIPTED, ["a", "bb", f"own {n}"]) for n in range(5)))
        )

    for found in with_service(tmp_path, work):
        assert found.tolist() == [[1, 1], [2, 1], [5, 1]]
    assert sorted(asked.texts) == sorted(["a", "bb", *(f"own {n}" for n in range(5))])


def test_all_that_shapes_a_vector_shapes_its_key(tmp_path: Path) -> None:
    with VectorServer() as server:
        keys = {
            embed(tmp_path, by, ["hello"], role).keys[0]
            for by, role in [
                (at(server), "document"),
                (at(server, dimensions=4), "document"),
                (at(server, model="openai/others"), "document"),
                (at(server, endpoint=server.url + "/x"), "document"),
                (at(server, deployment="house"), "document"),
                (at(server, query="Find: "), "query"),
            ]
        }
        assert len(keys) == 6
        before = len(server.asked)
        # What changes nothing of what is sent finds the same vector: a role without an instruction, normalising.
        same = [at(server), at(server, query="Find: "), at(server, normalise=True), at(server, document="")]
        assert {embed(tmp_path, by, ["hello"]).keys[0] for by in same} <= keys
        assert embed(tmp_path, at(server), ["hello"], "query").keys[0] in keys
        assert len(server.asked) == before


def test_openai_is_asked_in_base64_and_answers_in_any_order(tmp_path: Path) -> None:
    texts = ["one", "two", "three"]
    for number, as_numbers in enumerate((False, True)):
        with VectorServer(numbers=as_numbers) as server:
            found = embed(tmp_path / str(number), at(server, dimensions=8), texts)
        assert found.array.tolist() == [vector(text, 8) for text in texts]
        (asked,) = server.asked
        assert asked.path == "/v1/embeddings"
        assert {**asked.body, "input": 3} == {
            "model": "vectors", "input": 3, "encoding_format": "base64", "dimensions": 8
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variable", "path", "task", "size"),
    [
        ("cohere/embed-v4.0", "COHERE_API_KEY", "/embed", ("input_type", "search_query"), ("output_dimension", 4)),
        ("voyage/voyage-3.5", "VOYAGE_API_KEY", "/embeddings", ("input_type", "query"), ("output_dimension", 4)),
        (
            "gemini/gemini-embedding-001",
            "GEMINI_API_KEY",
            "/models/gemini-embedding-001:batchEmbedContents",
            ("taskType", "RETRIEVAL_QUERY"),
            ("outputDimensionality", 4),
        ),
    ],
)
def test_apis_of_their_own_are_told_what_texts_are_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variable: str,
    path: str,
    task: tuple[str, str],
    size: tuple[str, int],
) -> None:
    from stillhouse.calls.providers import embed_http

    host = name.partition("/")[0]
    with VectorServer() as server:
        endpoint, dialect = embed_http.DIALECTS[host]
        moved = Endpoint(server.url, api_key=endpoint.api_key)  # the wire leads here in place of the provider's
        monkeypatch.setattr(embed_http, "DIALECTS", {host: (moved, dialect)})
        by = Embedder(model=name, dimensions=4, normalise=False)
        credentials = Credentials({variable: "secret"})
        found = embed(tmp_path, by, ["one", "two"], "query", credentials=credentials)
        other = embed(tmp_path, by, ["one"], "document", credentials=credentials)
    assert found.array.tolist() == [vector("one", 4), vector("two", 4)]
    assert other.keys[0] != found.keys[0]
    asked = server.asked[0]
    assert asked.path == "/v1" + path
    assert "secret" in (asked.headers.get("Authorization", "") + asked.headers.get("x-goog-api-key", ""))
    told = asked.body["requests"][0] if "requests" in asked.body else asked.body
    assert (task[0], told[task[0]]) == task
    assert (size[0], told[size[0]]) == size


def test_what_is_spoken_at_an_endpoint_is_spoken(tmp_path: Path) -> None:
    with VectorServer() as server:
        place = server.url.removesuffix("/v1")
        azure = Endpoint(place, api="azure", api_key="AZURE_KEY", model="my deployment")
        by = Embedder(model="openai/text-embedding-3-small", deployment="house", normalise=False)
        credentials = Credentials({"AZURE_KEY": "secret"})
        found = embed(tmp_path / "azure", by, ["one"], endpoints={"house": azure}, credentials=credentials)
        cohere = at(server, model="cohere/embed-v4.0")
        embed(tmp_path / "cohere", cohere, ["one"], "query")
    assert found.array.tolist() == [vector("one")]
    first, second = server.asked
    assert first.path.startswith("/openai/deployments/my%20deployment/embeddings?api-version=")
    assert first.headers["api-key"] == "secret"
    assert second.path == "/v1/embed"
    assert second.body["input_type"] == "search_query"
    with pytest.raises(RecipeError, match="no vectors are known of what is spoken"):
        embed(tmp_path, Embedder(model="anthropic/claude-haiku-4-5"), ["one"])


def test_one_text_that_is_not_taken_carries_no_other_along(tmp_path: Path) -> None:
    def behave(asked: Asked) -> Told | None:
        if any("novel" in text for text in asked.texts):
            return error(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded")
        return None

    texts = [f"text {number}" for number in range(20)] + ["a novel"]
    with VectorServer(behave) as server:
        found = embed(tmp_path, at(server), texts)
        assert {place: fault.kind for place, fault in found.faults.items()} == {20: "too_long"}
        assert found.array[:20].tolist() == [vector(text) for text in texts[:20]]
        assert found.array[20].tolist() == [0.0] * 6
        with pytest.raises(RowFault, match="maximum context"):
            with_service(tmp_path, lambda service: service.embed(at(server), texts))


@pytest.mark.parametrize(
    "trouble",
    [
        error(429, "slow down", retry_after="0.01"),
        error(500, "oops"),
        Told(200, b"half a js"),
        Told(200, b'{"data": []}'),
        Told(200, b'{"data": [{"index": 0, "embedding": ["x"]}]}'),
        Told(200, b'{"data": [{"index": 0, "embedding": [1, null]}]}'),
        Told(200, b'{"data": [{"index": 1, "embedding": [1, 2]}]}'),
        Told(200, b'{"data": [{"index": 0, "embedding": []}]}'),
    ],
)
def test_what_may_pass_is_tried_again(tmp_path: Path, trouble: Told) -> None:
    with VectorServer(lambda asked: trouble if asked.number == 0 else None) as server:
        found = embed(tmp_path, at(server), ["one"])
        assert found.array.tolist() == [vector("one")]
        assert len(server.asked) == 2


def test_attempts_come_to_an_end_and_the_rows_may_be_asked_again(tmp_path: Path) -> None:
    with VectorServer(lambda asked: error(503, "down")) as server:
        found = embed(tmp_path, at(server), ["one", "two"])
        assert {fault.kind for fault in found.faults.values()} == {"exhausted"}
        assert len(found.faults) == 2
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 404])
def test_what_no_text_can_change_stops_at_once(tmp_path: Path, status: int) -> None:
    with VectorServer(lambda asked: error(status, "no")) as server, pytest.raises(ModelError):
        embed(tmp_path, at(server), [f"text {number}" for number in range(2000)])
    assert len(server.asked) <= 32


def test_what_was_answered_before_a_failure_is_kept(tmp_path: Path) -> None:
    asked = script_vectors(
        "vectors", numbers, failures={2: ModelError("no quota", kind="quota")}, limits=Limits(5), latency=0.01
    )
    texts = [f"text {number:03d}" for number in range(50)]
    with pytest.raises(ModelError, match="no quota"):
        embed(tmp_path, SCRIPTED, texts, concurrency=2)
    before = set(asked.texts)
    embed(tmp_path, SCRIPTED, texts)
    again = [text for text in asked.texts if asked.texts.count(text) > 1]
    assert len(before) < 50
    assert len(set(again)) == 5  # the batch that failed


def test_calls_tokens_and_money_stand_on_the_bill(tmp_path: Path) -> None:
    with VectorServer() as server:

        async def work(service: CallService) -> Any:
            scope = service.scope("step")
            await scope.embed(at(server), ["one", "two"])
            await scope.embed(at(server), ["two", "three"])
            return scope.spent()["total"]

        spent = with_service(tmp_path, work, prices={"openai/vectors": Price(1000.0, 0.0)})
    assert (spent["calls"], spent["cached"], spent["prompt_tokens"]) == (2, 1, 6)
    assert spent["cost_usd"] == pytest.approx(0.006)


def test_the_archive_knows_who_made_a_vector_and_for_what(tmp_path: Path) -> None:
    from stillhouse.calls.archive import Archive

    with VectorServer() as server:

        async def work(service: CallService) -> None:
            await service.scope("step").embed(at(server), ["one", "twelve"])

        with_service(tmp_path, work, prices={"openai/vectors": Price(1000.0, 0.0)})
    with Archive(tmp_path) as archive:
        calls = sorted(archive.calls(), key=lambda call: call.num_bytes)
    assert [(call.model, call.step, call.end()) for call in calls] == [("openai/vectors", "step", "ok")] * 2
    assert sum(call.usage.prompt_tokens for call in calls) == 4
    assert sum(call.cost_usd or 0 for call in calls) == pytest.approx(0.004)
    assert calls[0].reply().text.startswith("6 numbers: ")


def test_a_budget_stops_before_the_call_that_would_pass_it(tmp_path: Path) -> None:
    asked = script_vectors("vectors", numbers, limits=Limits(1))
    with pytest.raises(BudgetError):
        embed(tmp_path, SCRIPTED, [f"{number}" for number in range(30)], budget=Budget(calls=4))
    assert len(asked.calls) == 4
    with VectorServer() as server, pytest.raises(BudgetError, match="price of"):
        embed(tmp_path, at(server), ["one"], budget=Budget(usd=1))
    assert server.asked == []


def test_a_damaged_vector_is_noticed_and_made_again(tmp_path: Path) -> None:
    asked = script_vectors("vectors", lambda text: [float(len(text))] * 400)
    embed(tmp_path, SCRIPTED, ["one", "three"])
    with sqlite3.connect(tmp_path / "calls.sqlite") as file:
        ((number, body),) = file.execute("SELECT id, body FROM replies LIMIT 1").fetchall()
        file.execute("UPDATE replies SET body = ? WHERE id = ?", (b"\x01" + body[1:], number))
    found = embed(tmp_path, SCRIPTED, ["one", "three"])
    assert found.array[:, 0].tolist() == [3, 5]
    assert len(asked.texts) == 3


def test_vectors_are_kept_in_their_own_bytes(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).normal(size=(1, 1536)).astype(np.float32)
    script_vectors("vectors", lambda text: draws[0].tolist())
    found = embed(tmp_path, SCRIPTED, ["one"])
    assert found.array.tobytes() == draws.tobytes()
    assert embed(tmp_path, SCRIPTED, ["one"]).array.tobytes() == draws.tobytes()
    with sqlite3.connect(tmp_path / "calls.sqlite") as file:
        ((size,),) = file.execute("SELECT length(body) FROM replies").fetchall()
    assert size == 4 * 1536


def test_functions_plain_and_async(tmp_path: Path) -> None:
    for name in ("lengths", "later"):
        by = Embedder(model=f"python:tests.calls.embedders:{name}", normalise=False)
        assert embed(tmp_path / name, by, ["see", "a"]).array.tolist() == [[3, 3], [1, 1]]
    picky = Embedder(model="python:tests.calls.embedders:picky")
    found = embed(tmp_path, picky, ["good", "bad", "better"])
    assert {place: fault.message for place, fault in found.faults.items()} == {1: "not this one"}
    with pytest.raises(ModelError, match=r"shape \(2, 2\) for 3 texts"):
        embed(tmp_path, Embedder(model="python:tests.calls.embedders:short"), ["a", "b", "c"])
    broken = embed(tmp_path, Embedder(model="python:tests.calls.embedders:broken"), ["x", "yy"])
    assert "ZeroDivisionError" in broken.faults[0].message
    assert list(broken.faults) == [0]


def test_lengths_are_one_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    script_vectors("vectors", lambda text: [3.0, 4.0, 12.0] if text else [0.0, 0.0, 0.0])
    found = embed(tmp_path, SCRIPTED.replace(normalise=True), ["x", ""])
    np.testing.assert_allclose(found.array, [[3 / 13, 4 / 13, 12 / 13], [0.0, 0.0, 0.0]], rtol=1e-6)
    cut = embed(tmp_path, SCRIPTED.replace(normalise=True, dimensions=2), ["x", ""])
    np.testing.assert_allclose(cut.array, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    with pytest.raises(RecipeError, match="vectors of 3 numbers, and 4 dimensions"):
        embed(tmp_path, SCRIPTED.replace(dimensions=4), ["x"])


def test_vectors_of_several_widths_are_an_error(tmp_path: Path) -> None:
    script_vectors("vectors", lambda text: [1.0] * len(text), limits=Limits(1))
    with pytest.raises(ModelError, match=r"vectors of 1 and of 2 numbers"):
        embed(tmp_path, SCRIPTED, ["a", "bb"])


def test_half_a_character_fails_its_row_alone(tmp_path: Path) -> None:
    script_vectors("vectors", numbers)
    found = embed(tmp_path, SCRIPTED, ["a", "\ud83d", "b"])
    assert {place: fault.kind for place, fault in found.faults.items()} == {1: "invalid"}
    assert found.array[2].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "mini"}, "names no model"),
        ({"model": "hash:4"}, "8 to 65,536"),
        ({"model": "hash:256", "dimensions": 8}, "in its name"),
        ({"model": "openai/a", "pooling": "mean"}, "models of this machine"),
        ({"model": "hash:64", "deployment": "house"}, "has no `deployment`"),
        ({"model": "hash:64", "endpoint": "http://here/v1"}, "runs in this process"),
        ({"model": "openai/a", "endpoint": "here"}, "no endpoint"),
    ],
)
def test_an_embedder_that_cannot_be_says_why(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Embedder(**fields)


# without a model


def test_hashed_vectors_are_the_same_everywhere() -> None:
    found = hashed_vectors(["The cat sat on the mat."], 16)
    again = hashed_vectors(["", "something else", "the  CAT sat, on the mat"], 16)
    assert found[0].tobytes() == again[2].tobytes()
    assert again[0].tolist() == [0.0] * 16
    np.testing.assert_allclose(found[0], GOLDEN, atol=1e-6)


GOLDEN = [
    0.052729, -0.352923, 0.352923, 0.089278, -0.137818, 0.183756, -0.210916, -0.215105,
    0.562829, 0.125827, -0.142007, 0.163387, 0.352923, 0.194736, -0.089278, -0.216116,
]  # fmt: skip


@given(st.text(max_size=40))
def test_hashed_vectors_have_length_one_or_nothing_in_them(text: str) -> None:
    (found,) = hashed_vectors([text], 64)
    assert np.isfinite(found).all()
    length = float(np.linalg.norm(found))
    assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0


def test_hashed_vectors_see_wordings(tmp_path: Path) -> None:
    by = Embedder(model="hash:256")
    texts = [
        "How do I return a pair of shoes that do not fit?",
        "How can I return shoes which do not fit me?",
        "What is the melting point of tungsten?",
    ]
    found = embed(tmp_path, by, texts)
    same, other = found.array[0] @ found.array[1], found.array[0] @ found.array[2]
    assert same > 0.5 > 0.25 > other
    assert found.keys == []
    asked = embed(tmp_path, by.replace(query="How: "), texts, "query")
    assert not np.array_equal(asked.array, found.array)


def test_hashed_products_are_near_those_of_the_counts() -> None:
    """The projection keeps cosines: their error falls with the root of the dimensions."""
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(200)]
    texts = [" ".join(rng.choice(words, 30)) for _ in range(30)]
    wide = hashed_vectors(texts, 65_536).astype(np.float64)
    exact = wide @ wide.T
    for dimensions in (256, 2048):
        found = hashed_vectors(texts, dimensions).astype(np.float64)
        assert np.abs(found @ found.T - exact).mean() < 1.5 / np.sqrt(dimensions)
