"""What leaves with an export, and what does not."""

from __future__ import annotations

import pytest

from stillhouse.calls.redact import Redactor
from stillhouse.core.errors import RecipeError


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("email", "write to jane.doe+x@mail.example.co.uk, please", "write to [email], please"),
        ("email", "the @property decorator, a@b", "the @property decorator, a@b"),
        ("phone", "call +44 20 7946 0958 or (030) 1234-5678", "call [phone] or [phone]"),
        ("phone", "tel. 555-867-5309.", "tel. [phone]."),
        ("phone", "on 2026-05-01, version 1.2.3, 12345678 rows", "on 2026-05-01, version 1.2.3, 12345678 rows"),
        ("phone", "10 000 times", "10 000 times"),
        ("key", "use sk-proj-abcdefghijklmnop1234 and AKIAIOSFODNN7EXAMPLE", "use [key] and [key]"),
        ("key", "Authorization: Bearer abcdefghijklmnopqrstuv==", "Authorization: [key]"),
        ("key", "the task-based sk-learn, a bearer of news", "the task-based sk-learn, a bearer of news"),
        (r"order \d+", "see order 77", "see [redacted]"),
    ],
)  # fmt: skip
def test_what_is_found_is_replaced_and_nothing_else(name: str, text: str, left: str) -> None:
    assert Redactor([name]).text(text) == left


def test_values_keep_their_shape_and_are_counted() -> None:
    redactor = Redactor(["email"])
    value = {"a@b.io": ["x\na@b.io", 1, None, {"deep": "c@d.io e@f.io"}], "n": 2.5}
    assert redactor.value(value) == {"[email]": ["x\n[email]", 1, None, {"deep": "[email] [email]"}], "n": 2.5}
    assert redactor.num_found == 4


def test_a_pattern_that_cannot_be_read_is_said() -> None:
    with pytest.raises(RecipeError, match="no regular expression"):
        Redactor(["(open"])
