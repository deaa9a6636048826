"""One question for each row."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from ..calls.ask import Ask
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Mapper, MapStep
from ..text.schema import Schema
from .expectation import expected
from .output import layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Prompt(MapStep, tag="generate.prompt/1"):
    """Fills `template` with the columns of each row, asks `by`, and adds the reply as `column`.

    The template is Jinja in a sandbox: `Translate into French: {{ text }}`. With a `response` schema the reply must
    follow it and the column holds its JSON text. Rows whose reply cannot be used fail with the reply's text.
    """

    by: Ask
    template: str = Field(min_length=1)
    column: str = Field("reply", pattern="^[^_]")
    response: Schema | None = None

    @field_validator("template")
    @classmethod
    def _readable(cls, template: str) -> str:
        from .template import Template

        try:
            Template(template)
        except RecipeError as error:
            raise ValueError(error.message) from None
        return template

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return {**self.values(), "layout": layout(self.response)} if self.response else self.values()

    def mapper(self, context: Context) -> Mapper:
        from ._prompt import prompter

        return prompter(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call for each row."""
        return expected(self.by, session, rows=rows_in, calls=rows_in, prompt=len(self.template) + 200, reply=400)
