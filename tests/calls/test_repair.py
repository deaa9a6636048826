"""Reading structured replies as models write them."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.calls.answer import Answer
from stillhouse.calls.prices import Price
from stillhouse.calls.repair import Case, asked_in_words, parse
from stillhouse.calls.reply import Usage, own_reply, text_reply
from stillhouse.calls.request import Request, RequestForm, Sampling
from stillhouse.core.errors import RowFault
from stillhouse.text.schema import Misfit, Schema

WORDS = Schema(
    {
        "title": "Words",
        "type": "object",
        "properties": {"words": {"type": "array", "items": {"type": "string"}}},
        "required": ["words"],
    }
)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ('{"words": ["a", "b"]}', False),
        (' \n{"words": ["a", "b"]}\n', False),
        ('```json\n{"words": ["a", "b"]}\n```', True),
        ('Here it is:\n{"words": ["a", "b"]}\nEnjoy!', True),
        ('{"words": ["a", "b",]}', True),
        ("{'words': ['a', 'b']}", True),
        ("{'words': ['a', 'b']} and that's it", True),
        ('{words: ["a", "b"]} // done', True),
    ],
)
def test_nearly_json_is_read_and_marked(text: str, mended: bool) -> None:
    assert parse(text, WORDS) == ({"words": ["a", "b"]}, mended)


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "[1, 2]", '{"words": "a"}', "null", "{}"])
def test_what_does_not_follow_the_schema_is_not_made_to(text: str) -> None:
    with pytest.raises(Misfit):
        parse(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        '{"words": ["a", "b',
        '{"words": ["a", "b"',
        '{"words": ["a", "b"]',
        "{'words': ['a', 'b",
        '```json\n{"words": ["a"',
    ],
)
def test_the_end_of_a_reply_that_stops_early_is_not_made_up(text: str) -> None:
    with pytest.raises(Misfit, match="not JSON"):
        parse(text, WORDS)


def test_a_reply_that_is_nested_too_deeply_is_a_misfit() -> None:
    with pytest.raises(Misfit):
        parse("[" * 3000, WORDS)
    with pytest.raises(Misfit, match="nested too deeply"):
        parse('{"words": ' + "[" * 3000 + "]" * 3000 + ",}", WORDS)


def test_half_a_character_that_cannot_be_quoted_back_fails_the_row() -> None:
    fault = case(WORDS).judge(text_reply("\ud800"), cached=False)

    assert isinstance(fault, RowFault)
    assert (fault.kind, fault.raw) == ("invalid", "?")


def test_the_correction_is_asked_for_in_words_of_our_own() -> None:
    """A new version of a library that words its errors otherwise asks nothing again."""
    opened = case(WORDS)
    wrong = opened.judge(text_reply('{"words": "a"}'), cached=False)
    assert isinstance(wrong, Request)
    assert 'cannot be used: $.words breaks the rule `type`: "array"\n' in str(wrong.messages[-1]["content"])
    wrong = case(WORDS).judge(text_reply("no"), cached=False)
    assert isinstance(wrong, Request)
    assert "cannot be used: it is not JSON from line 1, column 1 on\n" in str(wrong.messages[-1]["content"])


def test_prose_is_no_string_by_accident() -> None:
    with pytest.raises(Misfit, match="not JSON"):
        parse("hello", Schema({"type": "string"}))


def case(schema: Schema | None = None, system: str | None = None) -> Case:
    form = RequestForm({"model": "m"}, "m", Sampling(), schema, system)
    return Case(form, form.request("hello"), Price(prompt=1e6, reply=1e6))


def test_an_answer_has_the_tokens_and_cost_of_all_its_calls() -> None:
    opened = case(WORDS)

    following = opened.judge(own_reply("no", usage=Usage(10, 1)), cached=True)
    assert isinstance(following, Request)
    answer = opened.judge(own_reply('{"words": []}', usage=Usage(20, 5, 2, 3)), cached=False)

    assert isinstance(answer, Answer)
    assert (answer.usage, answer.cost_usd, answer.cached) == (Usage(30, 6, 2, 3), 36.0, False)
    assert answer.keys[-1] == answer.key == following.key.hex()


def test_the_turns_of_a_case_depend_on_nothing_but_its_replies() -> None:
    def turns() -> list[Any]:
        opened = case(WORDS, system="s")
        return [opened.judge(text_reply(text), cached=False) for text in ("", "what?", "")]

    first, second = turns(), turns()

    assert [request.key for request in first[:2]] == [request.key for request in second[:2]]
    assert isinstance(first[2], Request)  # the correction came empty: that, too, is sampled once more
    assert first[2].again == 1


def test_a_refusal_while_correcting_is_a_refusal() -> None:
    opened = case(WORDS)
    opened.judge(text_reply("no json"), cached=False)

    fault = opened.judge(own_reply("", refusal="I will not."), cached=False)

    assert isinstance(fault, RowFault)
    assert (fault.kind, fault.message) == ("refused", "I will not.")


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_schema_in_words_goes_into_the_system_prompt(system: str | None) -> None:
    form = RequestForm({"model": "m"}, "m", Sampling(), WORDS, system)

    first, second = asked_in_words(form.request("hello"))

    assert first["role"] == "system"
    assert first["content"].startswith(f"{system}\n\n" if system else "Reply with JSON alone")
    assert '"title":"Words"' in first["content"]
    assert second == {"role": "user", "content": "hello"}
