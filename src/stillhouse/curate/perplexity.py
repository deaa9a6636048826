"""How surprising a text is to a language model."""

from pydantic import Field, model_validator

from ..core.artifact import Model, Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Mapper, MapStep, Step
from ..rows.named import Columns
from ..rows.transform import missing_column


class Perplexity(MapStep, tag="curate.perplexity/2"):
    """The same rows with a column `name`: the perplexity of their text, e to the mean loss of a token, to nine digits.

    Either a local `model` reads it (the first `max_tokens` of its tokens; the first token is not judged unless the
    tokenizer puts a begin token before it), or a word model counted from the texts of `reference`: runs of up to
    `order` words, smoothed by Witten and Bell (1991); words as `Dedup` knows them, and words that the reference does
    not hold share what one word seen once would get. High is unlike the reference, very low is often boilerplate;
    `Band` keeps what lies between. A text without a judged token has no perplexity.
    """

    columns: Columns
    model: Step[Model] | None = None
    max_tokens: int = Field(1024, ge=2)
    reference: Step[Rows] | None = None
    reference_columns: Columns | None = None
    """None takes `columns`."""
    order: int = Field(3, ge=1, le=5)
    name: str = Field("perplexity", pattern="^[A-Za-z][A-Za-z0-9_]*$")

    @model_validator(mode="after")
    def _one_judge(self) -> "Perplexity":
        if (self.model is None) == (self.reference is None):
            raise RecipeError("Perplexity: give either `model` or `reference`")
        return self

    def mapper(self, context: Context) -> Mapper:
        from ._perplexity import scorer

        have = context.get(self.rows).columns
        for name in self.columns:
            if have and name not in have:
                raise missing_column("Perplexity", name, have)
        if self.name in have:
            raise RecipeError(f"Perplexity: there is a column `{self.name}` already", "Give another `name`.")
        return scorer(self, context)
