"""Rows from the combinations of values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Step

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Grid(Step[Rows], tag="rows.grid/1"):
    """A row for each combination of the `attributes`: `Grid(attributes={"size": ("S", "L"), "milk": ("oat", "soy")})`.

    The last attribute changes fastest. With `num` so many different combinations are drawn by `seed`, in their order.
    Each combination stands there `each` times; `number` names a column that counts the rows from 0.
    """

    attributes: Mapping[str, tuple[Any, ...]] = Field({}, description="the values of each column: any that rows hold")
    num: int | None = Field(None, ge=1)
    seed: int = 0
    each: int = Field(1, ge=1)
    number: str | None = Field(None, pattern="^[^_]")

    @field_validator("attributes")
    @classmethod
    def _have_values(cls, attributes: Mapping[str, tuple[Any, ...]]) -> Mapping[str, tuple[Any, ...]]:
        for name, values in attributes.items():
            if name.startswith("_") or not name:
                raise ValueError(f"`{name}` cannot be a column: names with `_` first are for lineage")
            if not values:
                raise ValueError(f"`{name}` has no values, so there would be no row")
        return attributes

    @model_validator(mode="after")
    def _has_columns(self) -> "Grid":
        if not self.attributes and self.number is None:
            raise ValueError("the rows would have no column; give `attributes`, or a `number`")
        if self.number in self.attributes:
            raise ValueError(f"`{self.number}` is an attribute, so `number` cannot be called so")
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the attributes, which is that of columns and rows."""
        return {**self.values(), "order": tuple(self.attributes)}

    @property
    def num_rows(self) -> int:
        """How many rows it makes."""
        combinations = self.num_combinations
        return (combinations if self.num is None else min(self.num, combinations)) * self.each

    @property
    def num_combinations(self) -> int:
        """How many combinations there are."""
        product = 1
        for values in self.attributes.values():
            product *= len(values)
        return product

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """The number of rows."""
        from ..core.plan import Expectation

        del rows_in, session
        return Expectation(rows=self.num_rows)

    def run(self, context: Context) -> None:
        from ._grid import write_grid

        write_grid(self, context)
