"""Rows from an instruction whose places are filled by attributes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..rows.grid import Grid
from ..rows.import_ import Import
from ..text.schema import Schema
from .checks import MADE, Asked, Column, Instruction, check_samples, check_unpack
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class DataFromAttributedPrompt(MapStep, tag="generate.data_from_attributed_prompt/1"):
    """Rows from an `instruction` with attributes: `Write a {{ length }} review of a {{ product }}.` (AttrPrompt, Yu et
    al. 2023, arXiv 2306.15895).

    `attributes` are the values of each attribute, of which every combination is asked for; or a list of combinations;
    or rows of another step, by `rows`. `each` replies come for a combination, numbered in `sample` where there are
    several. The attributes become columns, the reply stands in `column` (or, with `unpack`, in columns of its fields).
    For a product that is too large, give `rows=Grid(attributes=…, num=1000)`, which draws from it.
    """

    rows: Step[Rows] = Field(MADE, description="the combinations; made of `attributes`")
    by: Asked
    instruction: Instruction
    attributes: Mapping[str, tuple[Any, ...]] | tuple[Mapping[str, Any], ...] | None = None
    each: int = Field(1, ge=1)
    column: Column = "text"
    response: Schema | None = None
    unpack: bool = False

    @field_validator("attributes", mode="before")
    @classmethod
    def _are_values(cls, attributes: Any) -> Any:
        for name, values in attributes.items() if isinstance(attributes, Mapping) else ():
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise ValueError(f"`{name}` is {values!r:.40}, expected its values: {name}=[{values!r:.40}, …]")
        return attributes

    @model_validator(mode="after")
    def _combined(self) -> "DataFromAttributedPrompt":
        check_samples(self.by, self.each, "each")
        check_unpack(self.response, self.unpack)
        if "rows" not in self.model_fields_set and not self.attributes:
            raise ValueError("give `attributes`, or combinations of them as `rows`")
        _check_shown(self.attributes or (), self.instruction)
        if "rows" not in self.model_fields_set:
            given = self.attributes
            made = Grid(attributes=given) if isinstance(given, Mapping) else Import(data=given, require=())
            self.__dict__["rows"] = made
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields but `attributes`, which the rows hold; and the order in which the JSON text is written."""
        counted = {name: value for name, value in self.values().items() if name != "attributes"}
        return with_layout(counted, self.response)

    def asks_about(self) -> Sequence[str]:
        """What the instruction reads."""
        from .template import columns_read

        return columns_read(self.instruction)

    def mapper(self, context: Context) -> Mapper:
        from ._prompt import prompter
        from .prompt import Prompt

        fields = {"column": self.column, "response": self.response, "unpack": self.unpack}
        asked = Prompt(rows=self.rows, by=self.by, template=self.instruction, samples=self.each, **fields)
        return prompter(asked, context, name=type(self).__name__)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """`each` calls for a combination."""
        rows = None if rows_in is None else rows_in * self.each
        return expected(self.by, session, rows=rows, calls=rows, prompt=len(self.instruction) + 40, reply=400)


def _check_shown(attributes: Mapping[str, Any] | Sequence[Mapping[str, Any]], instruction: str) -> None:
    """Raise `ValueError` where the model would not be told an attribute by which texts are then labelled.

    What stands in a list of combinations may be for the reader alone, as long as something is shown, and so may an
    attribute of one value.
    """
    from .template import columns_read

    product = isinstance(attributes, Mapping)
    names = list(attributes) if product else list(dict.fromkeys(name for one in attributes for name in one))
    read = columns_read(instruction)
    alike = (
        [name for name, values in attributes.items() if len(values) > 1] if isinstance(attributes, Mapping) else names
    )
    unseen = [name for name in alike if name not in read]
    wrong = next((name for name in read if name not in names), None) if product else None
    if wrong is None and unseen and (product or len(unseen) == len(names)):
        raise ValueError(
            f"the instruction does not show `{unseen[0]}`, so all of its values would be asked alike; write "
            f"`{{{{ {unseen[0]} }}}}` where it belongs, or take the attribute away"
        )
