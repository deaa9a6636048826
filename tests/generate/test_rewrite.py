"""Texts written anew: in place of the old ones or beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import RecipeError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.rewrite import Rewrite
from stillhouse.rows.import_ import Import

BY = Ask(model="scripted:rewriter", temperature=1.0)


def reply(messages: Any, schema: Any, sample: int) -> str:
    """The text between the marks, louder; nothing for one that asks for it."""
    question = messages[-1]["content"]
    text = question.partition("<text>\n")[2].partition("\n</text>")[0]
    assert "in capitals" in question
    return "  \n" if text == "nothing" else f" {text.upper()} {sample}\n"


def rewritten(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> Any:
    script("rewriter", reply)
    step = Rewrite(rows=Import(data=rows, require=()), by=BY, how="Put it {{ how }}.", **fields)
    with Session(folder, track=False, progress=False, options=Options(max_failed=1.0)) as session:
        return session.run(step)


def test_the_new_text_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    rows = [{"text": "tea", "how": "in capitals"}, {"text": "nothing", "how": "in capitals"}]
    made = rewritten(tmp_path, rows)
    assert [(row["text"], row["how"]) for row in made] == [("TEA 0", "in capitals")]
    assert [row["kind"] for row in made.failed()] == ["empty"]


def test_it_may_stand_beside_it_several_times(tmp_path: Path) -> None:
    made = rewritten(tmp_path, [{"text": "tea", "how": "in capitals"}], into="loud", samples=2)
    assert [(row["text"], row["loud"], row["sample"]) for row in made] == [("tea", "TEA 0", 0), ("tea", "TEA 1", 1)]


def test_columns_that_are_not_there_or_taken_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no column `body`"):
        rewritten(tmp_path, [{"text": "tea", "how": "in capitals"}], input="body")
    with pytest.raises(RecipeError, match="a column `how` already"):
        rewritten(tmp_path, [{"text": "tea", "how": "in capitals"}], into="how")


@settings(max_examples=5)
@given(texts=st.lists(st.text("abc ", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=5))
def test_every_row_has_its_text_again_in_order(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    made = rewritten(tmp_path_factory.mktemp("rewrite"), [{"text": text, "how": "in capitals"} for text in texts])
    assert [row["text"].rsplit(" ", 1)[0].strip() for row in made] == [text.upper().strip() for text in texts]
