# ruff: noqa: E501
"""Templates built as those of well-known families of models: what is learnt, token by token.

The texts are our own; headers, ends of turn, begin tokens, reasoning and refusals of roles are as these families have
them. None but the first has `{% generation %}` marks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.text.chat import ChatRenderer, Rendered
from stillhouse.text.tokenizer import load_tokenizer
from tests.text.tokenizers import SENTENCES

CONTROL = (
    "<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<|header|>", "<|/header|>", "<|eot|>", "<turn>", "</turn>",
    "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|system|>", "<|fin|>",
)  # fmt: skip


class Family(NamedTuple):
    template: str
    end: str
    """What ends a reply."""
    eos: str
    """The tokenizer's own end token."""
    bos: bool = False
    system: bool = True
    """Whether a system message is taken."""


FAMILIES = {
    # ChatML with marks, tools in the system turn and reasoning before the answer.
    "chatml": Family(
        "{%- if tools %}{{ '<|im_start|>system\nTools: ' + (tools | tojson) + '<|im_end|>\n' }}{% endif -%}"
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}"
        "{%- if m.role == 'assistant' -%}{%- generation -%}"
        "{%- if m.thinking %}{{ '<think>\n' + m.thinking + '\n</think>\n\n' }}{% endif -%}"
        "{{- m.content or '' -}}{%- for call in m.tool_calls or [] -%}"
        "{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' -}}{%- endfor -%}"
        "{{- '<|im_end|>' -}}{%- endgeneration -%}{{- '\n' -}}"
        "{%- else -%}{{- m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}",
        "<|im_end|>",
        "<|im_end|>",
    ),
    # ChatML without marks, whose tokenizer calls another token its end.
    "chatml without marks": Family(
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}",
        "<|im_end|>",
        "<eos>",
    ),
    # Headers in tokens of their own, an empty line after them, a begin token first.
    "headers": Family(
        "{{- bos_token -}}{%- for m in messages -%}"
        "{{- '<|header|>' + m.role + '<|/header|>\n\n' + (m.content | trim) + '<|eot|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<|header|>assistant<|/header|>\n\n' }}{% endif -%}",
        "<|eot|>",
        "<eos>",
        bos=True,
    ),
    # No system role; the assistant is called model.
    "turns": Family(
        "{{- bos_token -}}{%- if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif -%}"
        "{%- for m in messages -%}{%- set role = 'model' if m.role == 'assistant' else m.role -%}"
        "{{- '<turn>' + role + '\n' + (m.content | trim) + '</turn>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<turn>model\n' }}{% endif -%}",
        "</turn>",
        "<eos>",
        bos=True,
        system=False,
    ),
    # Brackets around what the user says, the system message in them, strict alternation, no header of the reply.
    "brackets": Family(
        "{{- bos_token -}}{%- set system = '' -%}{%- if messages[0].role == 'system' -%}"
        "{%- set system = messages[0].content + '\n\n' -%}{%- set messages = messages[1:] -%}{%- endif -%}"
        "{%- for m in messages -%}"
        "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif -%}"
        "{%- if m.role == 'user' -%}{{- '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' -}}"
        "{%- else -%}{{- ' ' + m.content + eos_token -}}{%- endif -%}{%- endfor -%}",
        "<eos>",
        "<eos>",
        bos=True,
    ),
    # A marker for each role and the end token after every message.
    "markers": Family(
        "{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content + '<|fin|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}",
        "<|fin|>",
        "<eos>",
    ),
}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two lattes"},
    {"role": "assistant", "content": "2 latte"},
    {"role": "user", "content": "and a bagel"},
    {"role": "assistant", "content": "1 bagel"},
]


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    family = FAMILIES[name]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(CONTROL), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*SENTENCES, "assistant\n\nuser\n\nmodel\n"] * 2, trainer)
    backend.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=family.eos,
        pad_token=family.eos,  # as many have it; the end is learnt all the same
        bos_token="<bos>" if family.bos else None,
        chat_template=family.template,
    )


def talk(name: str) -> list[dict[str, str]]:
    return TALK if FAMILIES[name].system else TALK[1:]


def shown(name: str, ids: list[int]) -> str:
    text: str = tokenizer_of(name).backend_tokenizer.decode(ids, skip_special_tokens=False)
    return text


def learnt(name: str, rendered: Rendered) -> list[str]:
    """The stretches that are learnt."""
    found: list[list[int]] = []
    before = 0.0
    for token, weight in zip(rendered.ids, rendered.weights, strict=True):
        if weight and not before:
            found.append([])
        if weight:
            found[-1].append(token)
        before = weight
    return [shown(name, ids) for ids in found]


def rendered(name: str, messages: list[dict[str, Any]]) -> Rendered:
    return ChatRenderer(tokenizer_of(name)).render(messages)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_learnt_is_each_reply_and_the_token_that_ends_it(name: str) -> None:
    found = rendered(name, talk(name))
    space = " " if name == "brackets" else ""  # that template has no prompt that could end with it
    end = FAMILIES[name].end
    assert learnt(name, found) == [f"{space}2 latte{end}", f"{space}1 bagel{end}"]
    assert 0.0 < sum(found.weights) < len(found.weights)
    assert found.end_id == tokenizer_of(name).convert_tokens_to_ids(end)
    assert shown(name, found.ids) == found.text


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_is_what_stood_before_the_reply_and_the_next_turn_goes_on_from_it(name: str) -> None:
    renderer, messages = ChatRenderer(tokenizer_of(name)), talk(name)
    for stop in range(len(messages) - 1):
        if messages[stop + 1]["role"] != "assistant":
            continue
        prompt = renderer.prompt(messages[: stop + 1])
        found = renderer.render(messages[: stop + 2])
        assert found.ids[: len(prompt)] == prompt
        assert found.weights[len(prompt)] == 1.0
        assert found.weights[len(prompt) - 1] == 0.0


@pytest.mark.parametrize("name", FAMILIES)
def test_the_begin_token_stands_once_in_training_and_in_prompts(name: str) -> None:
    begin = tokenizer_of(name).bos_token_id
    wanted = [begin] if FAMILIES[name].bos else []
    messages = talk(name)
    for ids in (rendered(name, messages).ids, ChatRenderer(tokenizer_of(name)).prompt(messages[:-1])):
        assert [token for token in ids if token == begin and begin is not None] == wanted
        assert ids[: len(wanted)] == wanted


@pytest.mark.parametrize("name", FAMILIES)
def test_an_exported_tokenizer_renders_the_same_ids(name: str, tmp_path: Any) -> None:
    tokenizer_of(name).save_pretrained(tmp_path)
    again = ChatRenderer(load_tokenizer(tmp_path))
    assert again.render(talk(name)) == rendered(name, talk(name))
    theirs = load_tokenizer(tmp_path).apply_chat_template(talk(name), tokenize=True, return_dict=False)
    assert list(theirs) == rendered(name, talk(name)).ids


def test_token_level_tables() -> None:
    """Headers, line breaks behind the end and empty lines of headers are not learnt."""
    tables = {
        "chatml": [("<|im_start|>", 0), ("user\nA", 0), ("<|im_end|>", 0), ("\n", 0), ("<|im_start|>", 0),
                   ("assistant\n", 0), ("B", 1), ("<|im_end|>", 1), ("\n", 0)],
        "headers": [("<bos>", 0), ("<|header|>", 0), ("user", 0), ("<|/header|>", 0), ("\n\nA", 0),
                    ("<|eot|>", 0), ("<|header|>", 0), ("assistant", 0), ("<|/header|>", 0), ("\n\n", 0), ("B", 1),
                    ("<|eot|>", 1)],
        "turns": [("<bos>", 0), ("<turn>", 0), ("user\nA", 0), ("</turn>", 0), ("\n", 0), ("<turn>", 0),
                  ("model\n", 0), ("B", 1), ("</turn>", 1), ("\n", 0)],
    }  # fmt: skip
    for name, expected in tables.items():
        found = rendered(name, [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}])
        table: list[tuple[str, int]] = []
        for token, weight in zip(found.ids, found.weights, strict=True):
            text = shown(name, [token])
            # Plain tokens of one weight, joined: how a word falls into tokens is not what is looked at.
            if table and table[-1][1] == weight and text not in CONTROL and table[-1][0] not in CONTROL:
                text = table.pop()[0] + text
            table.append((text, int(weight)))
        assert table == expected, name


def test_reasoning_and_calls_of_tools_are_learnt_and_what_tools_say_is_not() -> None:
    call = {"type": "function", "function": {"name": "count", "arguments": {"item": "latte"}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "", "thinking": "look", "tool_calls": [call]},
        {"role": "tool", "content": "there are 7"},
        {"role": "assistant", "content": "7", "thinking": "seven"},
    ]
    first, second = learnt("chatml", rendered("chatml", messages))
    assert first.startswith("<think>\nlook\n</think>\n\n<tool_call>")
    assert '"name": "count"' in first
    assert first.endswith("</tool_call><|im_end|>")
    assert second == "<think>\nseven\n</think>\n\n7<|im_end|>"


def test_roles_that_a_template_refuses_fail_the_row_with_its_words() -> None:
    with pytest.raises(RowFault, match="no system role"):
        rendered("turns", TALK)
    with pytest.raises(RowFault, match="roles must alternate"):
        rendered("brackets", [TALK[1], TALK[1], TALK[2]])


def test_a_template_that_drops_earlier_reasoning_needs_marks() -> None:
    """As some reasoning models do: what was thought in earlier turns is left out, so no prompt is a prefix."""
    template = (
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}"
        "{%- if m.thinking and loop.last %}{{ '<think>' + m.thinking + '</think>' }}{% endif -%}"
        "{%- if m.role == 'assistant' and not loop.last %}{{ '(' }}{% endif -%}"
        "{{- m.content + '<|im_end|>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>' }}{% endif -%}"
    )
    with pytest.raises(RecipeError, match="generation"):
        ChatRenderer(tokenizer_of("chatml"), template).render(TALK)


def test_a_tokenizer_of_python_code_only_and_one_without_end_are_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(RecipeError, match="gives no offsets"):
        ChatRenderer(ByT5Tokenizer())
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer_of("chatml").backend_tokenizer)
    with pytest.raises(RecipeError, match="no end token"):
        ChatRenderer(endless)
