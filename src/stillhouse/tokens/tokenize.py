"""Rows as token files."""

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Files, Model, Rows, Tokens
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step


class Tokenize(Step[Tokens], tag="tokens.tokenize/2"):
    """Token files with loss weights, made from conversations or from text.

    Without `text`, the column `messages` is rendered with the chat template and only what the assistant writes counts
    in the loss, its end token included. With `text`, the columns' texts are joined by an empty line, the end token is
    put after them, and every token counts. A control token that is written in a text (`<|end|>` in a page about chat
    templates) is read as the characters it consists of; `control_tokens=True` reads it as the token it names, for texts
    that a template has made.

    A row that cannot be used (nothing to learn, longer than `max_length`, no text, a control token that the tokenizer
    cannot read as text) goes to `rejects.jsonl` of the artifact with the reason; nothing is shortened.
    """

    rows: Step[Rows]
    tokenizer: Step[Files] | Step[Model] = Field(
        description="a tokenizer's folder, or a model whose tokenizer is taken"
    )
    text: tuple[str, ...] | None = Field(None, description="columns of text; without, conversations in `messages`")
    template: str | None = Field(None, description="a chat template in place of the tokenizer's own")
    max_length: int | None = Field(None, ge=2, description="longer rows are rejected, in tokens")
    weight: str | None = Field(None, description="column with the weight of each example in the loss")
    source: str = Field("", description="name that the documents carry, to tell sources apart")
    control_tokens: bool = Field(False, description="control tokens written in the texts are read as such")

    @field_validator("text", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _control_tokens_are_of_text(self) -> "Tokenize":
        if self.control_tokens and self.text is None:
            raise RecipeError(
                "Tokenize: `control_tokens` is for texts; the chat template alone writes those of conversations",
                "Leave it out, or name columns of text with `text`.",
            )
        return self

    def run(self, context: Context) -> None:
        from ._tokenize import tokenize

        tokenize(self, context)
