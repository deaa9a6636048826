"""Keys of requests: canonical, and moved by everything that shapes a reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.request import Extras, Prompt, Request, RequestForm, Sampling, key_of
from stillhouse.text.schema import Schema

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts}), max_size=4
)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.1, 1),
    max_tokens=st.none() | st.integers(1, 99),
    stop=st.lists(texts, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 9),
)
WORD: dict[str, Any] = {"type": "object", "title": "W", "properties": {"w": {"type": "string"}}}


@given(
    prompt=texts | messages,
    system=st.none() | texts,
    sampling=samplings,
    sample=st.integers(0, 9),
    again=st.integers(0, 1),
)
def test_the_canonical_form_is_json_with_sorted_keys(
    prompt: Any, system: str | None, sampling: Sampling, sample: int, again: int
) -> None:
    schema = Schema(WORD) if sample % 2 else None
    form = RequestForm({"model": "python:x", "function": "f" * 32}, "x", sampling, schema, system)

    request = form.request(prompt, sample, again)

    plain = {
        **({"again": again} if again else {}),
        "by": {"model": "python:x", "function": "f" * 32},
        "messages": request.messages,
        "sample": sample,
        "sampling": sampling.form(),
    }
    sorted_part = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    assert request.canonical == sorted_part[:-1] + b',"schema":' + orjson.dumps(WORD if schema else None) + b"}"
    assert request.key == key_of(request.canonical)


@given(text=texts, system=st.none() | texts)
def test_a_text_is_a_message_of_the_user(text: str, system: str | None) -> None:
    form = RequestForm({"model": "m"}, "m", Sampling(), None, system)

    assert form.request(text) == form.request([{"role": "user", "content": text}])


def test_a_system_prompt_counts_as_the_message_it_becomes() -> None:
    with_prompt = RequestForm({"model": "m"}, "m", Sampling(), None, "Be brief.")
    without = RequestForm({"model": "m"}, "m", Sampling(), None, None)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]

    assert with_prompt.request("hello").key == without.request(turns).key


def keys_of(**changes: Any) -> bytes:
    given: dict[str, Any] = {
        "by": {"model": "m"},
        "sampling": Sampling(),
        "schema": None,
        "system": None,
        "prompt": Prompt("hello"),
        "again": 0,
        **changes,
    }
    form = RequestForm(given["by"], "m", given["sampling"], given["schema"], given["system"])
    return form.request(given["prompt"].messages, given["prompt"].sample, given["again"]).key


@pytest.mark.parametrize(
    "changes",
    [
        {"by": {"model": "n"}},
        {"by": {"model": "m", "endpoint": "http://elsewhere/v1"}},
        {"by": {"deployment": "m"}},
        {"system": "Be brief."},
        {"system": ""},
        {"schema": Schema(WORD)},
        {"prompt": Prompt("hello!")},
        {"prompt": Prompt("hello", sample=1)},
        {"prompt": Prompt([{"role": "assistant", "content": "hello"}])},
        {"again": 1},
        *(
            {"sampling": Sampling()._replace(**change)}
            for change in (
                {"temperature": 0.5},
                {"temperature": None},
                {"top_p": 0.9},
                {"max_tokens": 5},
                {"stop": ("a",)},
                {"seed": 0},
            )
        ),
    ],
)
def test_everything_that_shapes_a_reply_moves_the_key(changes: dict[str, Any]) -> None:
    assert keys_of(**changes) != keys_of()


def test_the_order_of_a_schemas_fields_moves_the_key() -> None:
    """It says whether a model reasons before it answers."""
    fields = {"thinking": {"type": "string"}, "output": {"type": "string"}}
    turned = dict(reversed(list(fields.items())))
    first, second = (Schema({"type": "object", "properties": order}) for order in (fields, turned))

    assert keys_of(schema=first) != keys_of(schema=second)
    assert keys_of(schema=first) == keys_of(schema=Schema(first.form))


def test_extras_stand_in_the_canonical_form_between_who_is_asked_and_what() -> None:
    extras = Extras(
        tools=({"name": "clock", "description": "", "parameters": {}},), effort="low", extra={"b": 1, "a": 2}
    )
    form = RequestForm({"model": "m"}, "m", Sampling(), None, None, extras)

    request = form.request("hello")

    assert request.extras is extras
    assert orjson.loads(request.canonical)["extras"] == {**extras.form(), "tools": [*extras.tools]}
    assert list(orjson.loads(request.canonical)["extras"]) == ["effort", "extra", "tools"]
    assert list(orjson.loads(request.canonical)) == ["by", "extras", "messages", "sample", "sampling", "schema"]
    assert request.key.hex() == GOLDEN_WITH_EXTRAS


def test_the_order_of_a_tools_parameters_moves_the_key_and_that_of_extra_fields_does_not() -> None:
    def key(parameters: dict[str, Any], extra: dict[str, Any]) -> bytes:
        extras = Extras(tools=({"name": "t", "description": "", "parameters": parameters},), extra=extra)
        return RequestForm({"model": "m"}, "m", Sampling(), None, None, extras).request("hello").key

    assert key({"a": {}, "b": {}}, {"a": 1, "b": 2}) == key({"a": {}, "b": {}}, {"b": 2, "a": 1})
    assert key({"a": {}, "b": {}}, {}) != key({"b": {}, "a": {}}, {})


def test_an_image_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"a cat")
    form = RequestForm({"model": "m"}, "m", Sampling(), None, None)
    part = {"type": "image", "image": str(tmp_path / "cat.png")}

    request = form.request([{"role": "user", "content": [part, {"type": "text", "text": "?"}]}])

    (found, text) = orjson.loads(request.canonical)["messages"][0]["content"]
    assert (set(found), found["type"], text["text"]) == ({"type", "digest"}, "image", "?")
    assert request.messages[0]["content"][0]["image"] == str(tmp_path / "cat.png")
    again = form.follow_up(request)
    assert again.key == request.key
    (tmp_path / "cat.png").unlink()
    lost = form.request([{"role": "user", "content": [part]}])
    assert "No such file" in lost.canonical.decode()


GOLDEN_WITH_EXTRAS = "fa5f83b35f9948dfe56ec67574d3af46"


def test_a_key_is_what_it_was() -> None:
    """Replies that were paid for are found by these; a change here asks everything again."""
    assert keys_of().hex() == "3549aa3e29d2de93e9e412c8e8230286"


def test_a_follow_up_keeps_the_system_prompt_once() -> None:
    form = RequestForm({"model": "m"}, "m", Sampling(), None, "Be brief.")
    first = form.request("hello", sample=3)

    after: Request = form.follow_up(first, more=[{"role": "user", "content": "again"}])

    assert [message["content"] for message in after.messages] == ["Be brief.", "hello", "again"]
    assert after.sample == 3
    assert form.follow_up(first).key == first.key
    assert form.follow_up(first, again=1).key != first.key
