"""Names of columns, as fields of steps take them."""

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field


def _as_several(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Columns: TypeAlias = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_as_several, json_schema_input_type=str | tuple[str, ...]),
]
"""One column or more; a text is the name of one."""
