"""Who is asked, as it counts in the keys of steps and calls."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.deployment import Deployments
from stillhouse.calls.endpoint import Endpoint
from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import canonical, digest_of
from stillhouse.core.node import content_special, node_form
from stillhouse.core.options import Options
from stillhouse.core.part import Part

SOURCE = "def reply(messages, schema, sample):\n    return {answer!r}\n"


def recipe_key(ask: Part) -> str:
    def form(node: Any) -> Any:
        return node_form(node, content_special(form))

    return digest_of(form(ask))


def call_key(ask: Ask) -> str:
    """Key of one request, with a session that knows of nothing."""
    deployments = Deployments(
        endpoints={},
        credentials=Credentials(),
        concurrency=None,
        prices={},
        model_path=lambda step: Path(),
        options=Options(),
    )
    return deployments.plan(ask, None)[1].request("hello").key.hex()


def both(ask: Ask) -> tuple[str, str]:
    return recipe_key(ask), call_key(ask)


BASE = Ask(model="openai/gpt-4o-mini")


@pytest.mark.parametrize(
    "other",
    [
        Ask(model="openai/gpt-4o"),
        Ask(model="groq/gpt-4o-mini"),
        Ask(model="openai/gpt-4o-mini", endpoint="http://localhost:8000/v1"),
        Ask(model="openai/gpt-4o-mini", deployment="mine"),
        Ask(model="openai/gpt-4o-mini", system="Be brief."),
        Ask(model="openai/gpt-4o-mini", temperature=0.7),
        Ask(model="openai/gpt-4o-mini", top_p=0.9),
        Ask(model="openai/gpt-4o-mini", max_tokens=100),
        Ask(model="openai/gpt-4o-mini", stop=("\n",)),
        Ask(model="openai/gpt-4o-mini", seed=1),
        Ask(model="openai/gpt-4o-mini", tools=({"name": "clock"},)),
        Ask(model="openai/gpt-4o-mini", tool_choice="none"),
        Ask(model="openai/gpt-4o-mini", logprobs=0),
        Ask(model="openai/gpt-4o-mini", effort="low"),
        Ask(model="openai/gpt-4o-mini", thinking=1024),
        Ask(model="openai/gpt-4o-mini", structured="native"),
        Ask(model="openai/gpt-4o-mini", extra={"top_k": 5}),
        Ask(model="responses/gpt-4o-mini"),
    ],
)
def test_everything_that_shapes_answers_moves_both_keys(other: Ask) -> None:
    assert recipe_key(other) != recipe_key(BASE)
    assert call_key(other) != call_key(BASE)


@pytest.mark.parametrize("fields", [{"when_cut": "keep"}, {"when_looping": "keep"}])
def test_what_becomes_of_replies_moves_results_and_no_calls(fields: dict[str, Any]) -> None:
    other = BASE.replace(**fields)

    assert recipe_key(other) != recipe_key(BASE)
    assert call_key(other) == call_key(BASE)


def test_a_tool_counts_alike_in_whichever_form_it_is_given() -> None:
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}}
    flat = {"name": "weather", "description": "Tells it.", "parameters": parameters}
    ways = [
        Ask(model="openai/x", tools=(flat,)),
        Ask(model="openai/x", tools=({"type": "function", "function": flat},)),
        Ask(model="openai/x", tools=[{"name": "weather", "description": "Tells it.", "input_schema": parameters}]),
    ]

    assert len({both(way) for way in ways}) == 1


def test_a_declared_deployment_is_the_same_wherever_it_is_reached(function: Any) -> None:
    function("a")
    ways = [
        Ask(model="openai/teacher", endpoint="http://localhost:8000/v1", deployment="teacher"),
        Ask(model="mistral/large", deployment="teacher"),
        Ask(model="python:made_teacher", deployment="teacher"),
    ]

    assert len({both(way) for way in ways}) == 1
    assert both(ways[0]) != both(ways[0].replace(deployment="other"))


def test_a_function_counts_by_its_source(function: Any) -> None:
    ask = Ask(model="python:made_teacher:reply")
    function("one")
    first = both(ask)
    function("two")
    second = both(Ask(model="python:made_teacher:reply"))
    function("one", comment="# a remark\n")

    assert first[0] != second[0]
    assert first[1] != second[1]
    assert both(Ask(model="python:made_teacher:reply")) == first


def test_reply_is_the_function_of_a_module(function: Any) -> None:
    function("one")

    assert Ask(model="python:made_teacher").by()["function"]([], None, 0) == "one"


def test_a_folder_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    for name, content in (("a", "{}"), ("b", "{}"), ("c", '{"layers": 2}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)

    first, second, third = (both(Ask(model=f"local:{tmp_path / name}")) for name in "abc")

    assert first == second
    assert first != third


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "gpt-4o"}, "`gpt-4o` names no model; write `provider/name`"),
        ({"model": "openai/x", "temperature": 3}, "`temperature`"),
        ({"model": "openai/x", "temprature": 0.5}, "Did you mean `temperature`"),
        ({"model": "python:a.b:c", "endpoint": "http://localhost/v1"}, "`endpoint` goes with"),
        ({"model": 3}, "`model"),
        ({"model": "openai/x", "tools": ({"description": "?"},)}, "a tool has no name"),
        ({"model": "openai/x", "tools": ({"name": "a"}, {"name": "a"})}, "two tools have the name `a`"),
        ({"model": "openai/x", "tools": ({"name": "give_reply"},)}, "a tool cannot be called `give_reply`"),
        ({"model": "openai/x", "tools": ({"name": "a"},), "tool_choice": "b"}, "expected auto, none, required"),
        ({"model": "openai/x", "effort": "enormous"}, "`effort`"),
        ({"model": "openai/x", "logprobs": 50}, "`logprobs`"),
        ({"model": "openai/x", "structured": "yes"}, "`structured`"),
        ({"model": "lab/x", "endpoint": "lab"}, 'Ask(model=…, deployment="lab")'),
        ({"model": "lab/x", "endpoint": "ftp://host/v1"}, "is no endpoint"),
        ({"model": "lab/x", "endpoint": "http://host:80000/v1"}, "Port out of range"),
        ({"model": "lab/x", "endpoint": "http://host:port/v1"}, "is no endpoint"),
        ({"model": "lab/x", "endpoint": f"http://{'a' * 64}.org/v1"}, "is no endpoint"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_remedy(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Ask(**fields)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://me:hush@host/v1", "http://hush@host/v1", "http://host/v1?api_key=hush", "http://host/v1#hush"]
)
@pytest.mark.parametrize("kind", [Endpoint, lambda url: Ask(model="lab/x", endpoint=url)])
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str, kind: Any) -> None:
    with pytest.raises(RecipeError, match="name the variable of the key") as caught:
        kind(url)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("python:no_such_module_here", "no module `no_such_module_here`"),
        ("python:json:no_such", "has no `no_such`"),
        ("local:/no/such/folder", "is not a model"),
    ],
)
def test_a_model_that_is_not_there_is_said_when_the_key_is_taken(model: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_key(Ask(model=model))


def test_the_key_of_an_ask_needs_no_special_care() -> None:
    assert canonical(Ask(model="openai/x").identity()) == canonical({"by": {"model": "openai/x"}})


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module `made_teacher` whose `reply` says what is given."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(answer: str, comment: str = "") -> None:
        (tmp_path / "made_teacher.py").write_text(comment + SOURCE.format(answer=answer))
        sys.modules.pop("made_teacher", None)
        importlib.invalidate_caches()
        for cached in (tmp_path / "__pycache__").glob("*.pyc"):
            cached.unlink()

    yield write
    sys.modules.pop("made_teacher", None)
