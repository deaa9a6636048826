"""What the fields of steps that ask have in common: readable templates, names of columns, samples that can differ."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ..calls.ask import Ask, scheme_of
from ..core.errors import RecipeError
from ..text.schema import Schema


def readable(template: str) -> str:
    """The template, if it can be read; raises `ValueError` where it cannot."""
    from .template import Template

    if not template:
        raise ValueError("the template is empty")
    try:
        Template(template)
    except RecipeError as error:
        raise ValueError(error.message) from None
    return template


MADE: Any = None
"""Default of `rows` where a step makes them of its other fields."""
Column = Annotated[str, Field(pattern="^[^_]")]
"""Name of a column that a step makes; a leading underscore is for lineage."""
Instruction = Annotated[str, Field(min_length=1), AfterValidator(readable)]
"""A template: Jinja in a sandbox, filled with the columns of a row."""


def check_samples(by: Ask, number: int, field: str = "samples") -> None:
    """Raise `ValueError` where the model would give the same answer `number` times.

    What a function or a script answers is its own affair: it is told the number of the sample.
    """
    by_chance = not isinstance(by.model, str) or scheme_of(by.model) not in ("python", "scripted")
    if number > 1 and by.temperature == 0 and by_chance:
        raise ValueError(
            f"`{field}` is {number}, but at temperature 0 they are all the same answer; ask with "
            "`Ask(model=…, temperature=0.7)`"
        )


def check_tools(by: Ask, kept: Sequence[str]) -> None:
    """Raise `ValueError` where a model is offered tools, and what it wants called would be lost."""
    if by.tools and by.tool_choice != "none" and "tool_calls" not in kept:
        raise ValueError(
            "the `Ask` offers tools, whose calls have no place here; keep them by "
            '`Prompt(…, keep="tool_calls")`, or have them made by `ToolTraces`'
        )


def without_tools(by: Ask) -> Ask:
    """The `Ask`; raises `ValueError` where it offers tools, as there is nothing here to call them."""
    check_tools(by, ())
    return by


Asked = Annotated[Ask, AfterValidator(without_tools)]
"""Field type: a model that is asked for its reply, and offered no tools."""


def check_unpack(response: Schema | None, unpack: bool) -> None:
    """Raise `ValueError` where there are no fields to make columns of."""
    from .output import named_fields

    if unpack:
        try:
            named_fields(response)
        except RecipeError as error:
            raise ValueError(error.message) from None


def check_shown(least: int, most: int, tokens: int | None, tokenizer: object, candidates: int | None = None) -> None:
    """Raise `ValueError` where no number of things to show can do, or a tokenizer has nothing to count for."""
    if least > most:
        raise ValueError(f"`least` is {least}, more than `most`, which is {most}")
    if candidates is not None and candidates < most:
        raise ValueError(f"`candidates` is {candidates}, fewer than `most`, which is {most}")
    if tokenizer is not None and tokens is None:
        raise ValueError("there is a `tokenizer`, but no limit in `tokens`")
