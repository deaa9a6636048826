"""A model's answers to held-out rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from ..calls.ask import Ask, scheme_of
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..models.pretrained import Pretrained


class Predict(MapStep, tag="evaluate.predict/1"):
    """Asks `by` about each row and adds `reply`, `finish` and `error`.

    `input_column` holds a text, or messages whose last one is left out when the assistant wrote it. A generation that
    went wrong is kept, for it says something about the model: `error` is then `cut`, `empty`, `refused`, `invalid` or
    `too_long`. Rows that failed for other reasons (a provider that gave up) fail here too and can be asked again.

    With `answer_after` the text up to the last such mark goes into a column `thought` and `reply` is what follows it; a
    reply without the mark is taken whole.
    """

    by: Ask
    input_column: str = "input"
    answer_after: str | None = Field(
        None, min_length=1, description="a mark that ends the reasoning, such as `</think>`: the reply is what follows"
    )

    @field_validator("by", mode="before")
    @classmethod
    def _asked(cls, given: object) -> object:
        return asking(given)

    def asks_about(self) -> Sequence[str]:
        """The question."""
        return (self.input_column,)

    def mapper(self, context: Context) -> Mapper:
        from ._predict import predictor

        return predictor(self, context)


def asking(given: Any, max_tokens: int | None = None) -> Any:
    """`given` as an `Ask`: a step that makes a model, the name of weights (hub name or folder), or an `Ask` itself.

    A name with a scheme (`python:…`, `scripted:…`, `local:…`) is asked as it is; a provider's model needs an `Ask`,
    because a name like `openai/gpt-4o-mini` could also be one on the hub.
    """
    if isinstance(given, Step):
        return Ask(model=given, max_tokens=max_tokens)
    if isinstance(given, str):
        if scheme_of(given):
            return Ask(model=given, max_tokens=max_tokens)
        return Ask(model=Pretrained(name=given), max_tokens=max_tokens)
    if isinstance(given, Path):
        return Ask(model=Pretrained(name=str(given)), max_tokens=max_tokens)
    return given
