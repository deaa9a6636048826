"""Overlap of words between reply and expected answer."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ..core.part import Part
from .score import Score, expected_text


class TokenF1(Part, tag="measure.token_f1/1"):
    """Harmonic mean of word precision and recall, as in SQuAD 1.1 (Rajpurkar et al. 2016), for any script.

    Words: case folded, punctuation and symbols removed, `articles` dropped, split at spaces; Han characters and kana
    count as one word each because those scripts write no spaces. Undefined when the expected answer holds no word.
    """

    articles: tuple[str, ...] = Field(("a", "an", "the"), description="words that do not count")
    column: str = Field("output", description="column with the expected answer")

    @property
    def name(self) -> str:
        return "token F1"

    def __call__(self, item: Mapping[str, Any], reply: str) -> Score:
        expected = expected_text(item, self.column)
        wanted = Counter(answer_words(expected, self.articles)) if expected is not None else Counter()
        if not wanted:
            return Score(None, "the expected answer holds no word")
        given = Counter(answer_words(reply, self.articles))
        shared = (wanted & given).total()
        if shared == 0:
            return Score(0.0)
        precision, recall = shared / given.total(), shared / wanted.total()
        return Score(2 * precision * recall / (precision + recall), f"precision {precision:.3f}, recall {recall:.3f}")


def answer_words(text: str, articles: tuple[str, ...] = ()) -> list[str]:
    """The words of a text as `TokenF1` counts them."""
    marks = []
    for character in unicodedata.normalize("NFC", text.casefold()):
        if unicodedata.category(character)[0] in "PS":
            continue
        marks.append(f" {character} " if _stands_alone(character) else character)
    return [word for word in "".join(marks).split() if word not in articles]


def _stands_alone(character: str) -> bool:
    code = ord(character)
    return (
        0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3134F
    )
