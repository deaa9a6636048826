"""The reply's shape as a pydantic model, and a check of a row that needs no second opinion from the teacher."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .lexicon import lexemes
from .menu import EXTRAS, FOOD

Name = Literal[
    "espresso",
    "americano",
    "latte",
    "cappuccino",
    "flat white",
    "mocha",
    "black tea",
    "green tea",
    "chai",
    "hot chocolate",
    "lemonade",
    "croissant",
    "plain bagel",
    "blueberry muffin",
    "cinnamon roll",
    "cheese sandwich",
    "brownie",
    "banana bread",
]
Size = Literal["small", "medium", "large"]
Extra = Literal["iced", "decaf", "oat milk", "soy milk", "extra shot", "vanilla", "caramel", "whipped cream"]


class Item(BaseModel):
    """One line of the order. Extras stand in the order of the sheet; food has neither size nor extras."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: Annotated[int, Field(ge=1, le=12)]
    item: Name
    size: Size | None
    extras: list[Extra]

    @model_validator(mode="after")
    def _keeps_to_the_sheet(self) -> "Item":
        positions = [EXTRAS.index(extra) for extra in self.extras]
        if positions != sorted(set(positions)):
            raise ValueError("`extras` must follow the order of the sheet, each at most once")
        if self.item in FOOD and (self.size is not None or self.extras):
            raise ValueError(f"`{self.item}` is food: `size` must be null and `extras` empty")
        return self


class Order(BaseModel):
    """What a guest ordered: the items in the order of mention, and whether they are taken away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: Annotated[list[Item], Field(min_length=1)]
    to_go: bool


def verify(row: Mapping[str, Any]) -> bool | str:
    """True, or what is wrong with `row["output"]` (JSON text or value) as an answer to `row["input"]`.

    The reply must keep to the sheet, name the very items that the guest names, in that order, and give no size or extra
    that the guest never mentions. Counts, `to_go` and which item an extra belongs to are left to other checks.
    """
    output = row["output"]
    try:
        order = Order.model_validate(json.loads(output) if isinstance(output, str) else output)
    except json.JSONDecodeError as error:
        return f"the reply is not JSON: {error}"
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}"
    said = lexemes(row["input"])
    named = [lexeme.value for lexeme in said if lexeme.kind == "item"]
    answered = [item.item for item in order.items]
    if named != answered:
        return f"the guest names {named}, the reply has {answered}"
    mentioned = {lexeme.value for lexeme in said if lexeme.kind in ("size", "extra")}
    for item in order.items:
        for word in [*([item.size] if item.size else []), *item.extras]:
            if word not in mentioned:
                return f"`{word}` is not in the guest's words"
    return True
