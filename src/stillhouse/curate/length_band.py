"""Texts of a fitting length."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.artifact import Files, Model, Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Drop, Outcome, Row
from ..core.step import Mapper, MapStep, Step
from ..rows.named import Columns
from ..rows.transform import missing_column
from .finding import plain_text


class LengthBand(MapStep, tag="curate.length_band/1"):
    """The rows whose text is between `at_least` and `at_most` long, both included; the others are dropped with theirs.

    Tokens are those of `tokenizer`, without special ones; words stand between spaces.
    """

    chooses: ClassVar[bool] = True

    columns: Columns
    """What is measured; several columns count as one text."""
    unit: Literal["characters", "words", "tokens"]
    at_least: int | None = Field(None, ge=0)
    at_most: int | None = Field(None, ge=0)
    tokenizer: Step[Files] | Step[Model] | None = Field(
        None, description="a tokenizer's folder, or a model whose tokenizer is taken"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "LengthBand":
        if self.at_least is None and self.at_most is None:
            raise RecipeError("LengthBand: there is no bound", "Give `at_least`, `at_most` or both.")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise RecipeError(f"LengthBand: at least {self.at_least} and at most {self.at_most} lets nothing pass")
        if (self.unit == "tokens") != (self.tokenizer is not None):
            hint = "Name the `tokenizer`." if self.tokenizer is None else "Leave `tokenizer` out, or count `tokens`."
            raise RecipeError(f"LengthBand: lengths are counted in {self.unit}", hint)
        return self

    def mapper(self, context: Context) -> Mapper:
        have = context.get(self.rows).columns
        for name in self.columns:
            if have and name not in have:
                raise missing_column("LengthBand", name, have)
        count = self._counter(context)

        def outcomes(rows: Sequence[Row]) -> list[Outcome]:
            lengths = count(["\n".join(plain_text(row[name]) for name in self.columns) for row in rows])
            return [self._outcome(length) for length in lengths]

        return outcomes

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """How many rows each reason dropped."""
        from ._reasons import dropped_by_reason

        return {"dropped_by": dropped_by_reason(made)}

    def _counter(self, context: Context) -> Callable[[list[str]], list[int]]:
        if self.tokenizer is None:
            if self.unit == "characters":
                return lambda texts: [len(text) for text in texts]
            return lambda texts: [len(text.split()) for text in texts]
        from ..text.tokenizer import load_tokenizer

        tokenizer: Step[Any] = self.tokenizer
        backend = load_tokenizer(context.get(tokenizer).data).backend_tokenizer
        return lambda texts: [len(one.ids) for one in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _outcome(self, length: int) -> Outcome:
        if self.at_least is not None and length < self.at_least:
            return Drop(f"shorter than {self.at_least} {self.unit}", str(length))
        if self.at_most is not None and length > self.at_most:
            return Drop(f"longer than {self.at_most} {self.unit}", str(length))
        return KEEP
