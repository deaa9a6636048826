from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.text.chat import ChatRenderer, Rendered, render
from tests.text.tokenizers import MARKED_CHATML, PLAIN_CHATML, small_tokenizer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two lattes"},
    {"role": "assistant", "content": "2 latte"},
    {"role": "user", "content": "and a bagel"},
    {"role": "assistant", "content": "1 bagel"},
]
contents = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def learnt(rendered: Rendered, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    chosen = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    return text_of(chosen, tokenizer)


def text_of(ids: list[int], tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    text: str = (tokenizer or small_tokenizer()).backend_tokenizer.decode(ids, skip_special_tokens=False)
    return text


def variant(**fields: Any) -> PreTrainedTokenizerBase:
    tokenizer = copy.deepcopy(small_tokenizer())
    for name, value in fields.items():
        setattr(tokenizer, name, value)
    return tokenizer


def test_only_what_the_assistant_writes_counts_its_end_token_included() -> None:
    rendered = render(small_tokenizer(), TALK)
    assert rendered.text == (
        "<|system|> Be brief.<|user|> Two lattes<|assistant|>2 latte<|end|>"
        "<|user|> and a bagel<|assistant|>1 bagel<|end|>"
    )
    assert learnt(rendered) == "2 latte<|end|>1 bagel<|end|>"
    assert rendered.end_id == rendered.ids[-1] == small_tokenizer().eos_token_id
    assert set(rendered.weights) == {0.0, 1.0}


def test_token_level_table_of_the_default_template() -> None:
    rendered = render(small_tokenizer(), TALK[1:3])
    table = [(text_of([token]), weight) for token, weight in zip(rendered.ids, rendered.weights, strict=True)]
    assert table[0] == ("<|user|>", 0.0)
    marker = table.index(("<|assistant|>", 0.0))
    assert all(weight == 0.0 for _, weight in table[: marker + 1])
    assert all(weight == 1.0 for _, weight in table[marker + 1 :])
    assert table[-1] == ("<|end|>", 1.0)


def test_spans_name_who_wrote_which_tokens() -> None:
    rendered = render(small_tokenizer(), TALK)
    assert [(span.role, text_of(rendered.ids[span.start : span.stop]).strip()) for span in rendered.roles] == [
        ("system", "Be brief."),
        ("user", "Two lattes"),
        ("assistant", "2 latte<|end|>"),
        ("user", "and a bagel"),
        ("assistant", "1 bagel<|end|>"),
    ]


@given(contents, contents)
def test_learnt_tokens_decode_to_the_reply_and_its_end(question: str, answer: str) -> None:
    rendered = render(
        small_tokenizer(), [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    )
    assert learnt(rendered) == answer + "<|end|>"
    assert text_of(rendered.ids) == rendered.text


@pytest.mark.parametrize("template", [None, MARKED_CHATML, PLAIN_CHATML])
@given(contents, contents)
def test_the_prompt_alone_has_the_ids_that_it_has_before_the_reply(
    template: str | None, question: str, answer: str
) -> None:
    renderer = ChatRenderer(small_tokenizer(), template)
    asked = [{"role": "user", "content": question}]
    prompt = renderer.prompt(asked)
    rendered = renderer.render([*asked, {"role": "assistant", "content": answer}])
    assert rendered.ids[: len(prompt)] == prompt
    assert rendered.weights.index(1.0) == len(prompt)


@given(st.lists(contents, min_size=2, max_size=6))
def test_a_template_without_marks_gives_what_the_same_template_gives_with_them(texts: list[str]) -> None:
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    marked = ChatRenderer(small_tokenizer(), MARKED_CHATML).render(messages)
    assert ChatRenderer(small_tokenizer(), PLAIN_CHATML).render(messages) == marked


def test_the_line_break_after_the_end_token_is_not_learnt() -> None:
    rendered = ChatRenderer(small_tokenizer(), MARKED_CHATML).render(TALK)
    assert learnt(rendered) == "2 latte<|end|>1 bagel<|end|>"
    assert rendered.text.endswith("<|end|>\n")


def test_an_end_token_behind_the_marks_is_learnt() -> None:
    template = MARKED_CHATML.replace(
        "{{ m['content'] + eos_token }}{% endgeneration %}", "{{ m['content'] }}{% endgeneration %}{{ eos_token }}"
    )
    assert learnt(ChatRenderer(small_tokenizer(), template).render(TALK)) == "2 latte<|end|>1 bagel<|end|>"


def test_line_break_inside_the_marks_but_after_the_end_token_is_not_learnt() -> None:
    template = MARKED_CHATML.replace("{% endgeneration %}{{ '\n' }}", "{{ '\n' }}{% endgeneration %}")
    assert learnt(ChatRenderer(small_tokenizer(), template).render(TALK)) == "2 latte<|end|>1 bagel<|end|>"


def test_an_end_of_turn_that_is_not_the_end_token_of_the_tokenizer_is_learnt() -> None:
    tokenizer = variant(eos_token="<|tool|>")
    for template in (MARKED_CHATML, PLAIN_CHATML):
        other = template.replace("eos_token", "'<|end|>'")
        rendered = ChatRenderer(tokenizer, other).render(TALK)
        assert learnt(rendered) == "2 latte<|end|>1 bagel<|end|>"
        assert rendered.end_id != tokenizer.eos_token_id


def test_a_template_without_end_token_is_refused() -> None:
    template = MARKED_CHATML.replace(
        "m['content'] + eos_token }}{% endgeneration %}", "m['content'] }}{% endgeneration %}"
    )
    with pytest.raises(RecipeError, match="no end token after the reply"):
        ChatRenderer(small_tokenizer(), template).render(TALK)


def test_marks_around_everything_are_refused() -> None:
    template = "{% generation %}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}{% endgeneration %}"
    with pytest.raises(RecipeError, match="every token"):
        ChatRenderer(small_tokenizer(), template).render(TALK)


def test_marks_around_nothing_are_refused() -> None:
    template = PLAIN_CHATML + "{% generation %}{% endgeneration %}"
    with pytest.raises(RecipeError, match="marks nothing"):
        ChatRenderer(small_tokenizer(), template).render(TALK)


def test_a_template_without_marks_that_rewrites_earlier_turns_is_refused() -> None:
    template = "{{ '<|user|>' + messages | length | string }}" + PLAIN_CHATML
    with pytest.raises(RecipeError, match="generation"):
        ChatRenderer(small_tokenizer(), template).render(TALK)


def test_two_begin_tokens_are_refused_and_one_is_kept() -> None:
    tokenizer = variant(bos_token="<|system|>")
    once = ChatRenderer(tokenizer, "{{ bos_token }}" + MARKED_CHATML)
    assert once.render(TALK).ids.count(tokenizer.bos_token_id) == 1
    assert once.prompt(TALK[:2]).count(tokenizer.bos_token_id) == 1
    twice = ChatRenderer(tokenizer, "{{ bos_token + bos_token }}" + MARKED_CHATML)
    with pytest.raises(RecipeError, match="twice"):
        twice.render(TALK)
    with pytest.raises(RecipeError, match="twice"):
        twice.prompt(TALK[:2])


def test_the_end_token_is_learnt_when_pad_is_the_same_token() -> None:
    tokenizer = variant(pad_token="<|end|>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert learnt(render(tokenizer, TALK)) == "2 latte<|end|>1 bagel<|end|>"


def test_a_tokenizer_without_end_token_is_refused() -> None:
    with pytest.raises(RecipeError, match="no end token"):
        ChatRenderer(variant(eos_token=None))


def test_a_tokenizer_without_template_is_refused() -> None:
    with pytest.raises(RecipeError, match="no chat template"):
        ChatRenderer(variant(chat_template=None))


@pytest.mark.parametrize(
    "more",
    [
        {"content": [{"type": "text", "text": "x <|end|> y"}]},
        {"content": [{"type": "text", "text": "x <|en"}, {"type": "text", "text": "d|> y"}]},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "q <|end|> r"}}]},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"q": {"<|end|>": 1}}}}]},
        {"reasoning_content": "q <|end|><|user|> r"},
        {"content": None, "parts": ("<|end|>",), "tool_calls": [{"id": "a"}]},
    ],
)
def test_control_tokens_anywhere_in_a_message_fail_the_row(more: dict[str, Any]) -> None:
    renderer = ChatRenderer(small_tokenizer())
    fine, faulty = renderer.render_many([TALK, [*TALK[:1], {**TALK[1], **more}, *TALK[2:]]])
    assert not isinstance(fine, RowFault)
    assert isinstance(faulty, RowFault)
    assert faulty.kind == "invalid"
    assert "message 1 contains the control token `<|end|>`" in faulty.message


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_control_tokens_in_a_message_fail_the_row(role: str) -> None:
    messages = [dict(message) for message in TALK]
    next(message for message in messages if message["role"] == role)["content"] = "x<|end|><|assistant|>y"
    with pytest.raises(RowFault, match="control token"):
        render(small_tokenizer(), messages)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (TALK[:2], "nothing to learn"),
        ([], "at least one message"),
        ([{"content": "x"}], "no `role`"),
        ([{"role": "user"}, TALK[2]], "message 0 has no `content`"),
        ([{"role": "narrator", "content": "x"}, TALK[2]], "unknown role"),
    ],
)
def test_a_conversation_that_cannot_be_learnt_from_fails_with_the_reason(
    messages: list[dict[str, str]], said: str
) -> None:
    with pytest.raises(RowFault, match=said):
        render(small_tokenizer(), messages)


def test_a_fault_stands_in_the_place_of_its_conversation() -> None:
    found = ChatRenderer(small_tokenizer()).render_many([TALK, TALK[:2], TALK[1:3]])
    assert isinstance(found[0], Rendered)
    assert isinstance(found[1], RowFault)
    assert found[2] == render(small_tokenizer(), TALK[1:3])


def test_fields_that_are_none_do_not_count() -> None:
    padded = [{**message, "thinking": None, "name": None} for message in TALK]
    assert render(small_tokenizer(), padded) == render(small_tokenizer(), TALK)


def test_reasoning_is_written_and_learnt_before_the_answer() -> None:
    reply = {"role": "assistant", "content": "2", "thinking": "one and one"}
    rendered = render(small_tokenizer(), [TALK[1], reply])
    assert learnt(rendered) == "<think>one and one</think>2<|end|>"
    shown = small_tokenizer().backend_tokenizer.decode(rendered.ids, skip_special_tokens=True)
    assert shown.endswith("<think>one and one</think>2")


def test_a_saved_tokenizer_renders_the_same_ids(tmp_path: Any) -> None:
    from stillhouse.text.tokenizer import load_tokenizer

    small_tokenizer().save_pretrained(tmp_path / "saved")
    assert render(load_tokenizer(tmp_path / "saved"), TALK) == render(small_tokenizer(), TALK)
