from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text._json_syntax import common, pieces
from stillhouse.text.train_tokenizer import TrainTokenizer

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), values) | st.lists(values), spread=st.booleans())
def test_syntax_and_values_make_the_text_again(value: Any, spread: bool) -> None:
    text = json.dumps(value, ensure_ascii=spread, indent=1 if spread else None)
    found = pieces(text)
    assert found is not None
    syntax, inside = found
    assert len(syntax) == len(inside) + 1
    assert "".join(part + between for part, between in zip(syntax, [*inside, ""], strict=True)) == text


@pytest.mark.parametrize("text", ["no JSON", "12", '"text"', "", '{"torn": '])
def test_other_texts_have_no_syntax(text: str) -> None:
    assert pieces(text) is None


def test_only_what_many_replies_share_is_taken() -> None:
    replies = [json.dumps({"count": number, "item": "tea"}) for number in range(20)] + ['{"odd": 1}', "prose"]
    assert common(replies) == [', "item": "', '{"count": ']


def test_json_replies_get_short_and_come_back_as_they_were(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    replies = [json.dumps({"count": number, "item": "black tea", "extras": []}) for number in range(30)]
    rows = Import(
        data=tuple(
            {"messages": [{"role": "user", "content": f"{n} teas, please"}, {"role": "assistant", "content": reply}]}
            for n, reply in enumerate(replies)
        ),
        require=(),
    )
    lengths = {}
    with Session(tmp_path, track=False, progress=False) as session:
        for whole in (False, True):
            made = session.run(TrainTokenizer(rows=rows, vocab_size=330, json_syntax=whole))
            tokenizer = AutoTokenizer.from_pretrained(str(made.path))
            assert len(tokenizer) <= 330
            encoded = [tokenizer(reply, add_special_tokens=False)["input_ids"] for reply in replies]
            assert [tokenizer.decode(ids) for ids in encoded] == replies
            lengths[whole] = sum(map(len, encoded))
    assert lengths[True] < 0.5 * lengths[False]
