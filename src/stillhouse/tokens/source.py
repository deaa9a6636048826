"""A file of rows that a loader reads tokens from."""

from pydantic import field_validator, model_validator

from ..core.artifact import Files, Model
from ..core.errors import RecipeError
from ..core.files import InputFile
from ..core.part import Part
from ..core.step import Step
from ..rows.conversation import ToMessages
from ..rows.import_ import Import
from .tokenize import Tokenize


class Source(Part, tag="tokens.source/1"):
    """`Source(path="web.jsonl", text="content")`, or `Source(path="chats.jsonl", template="chat")` for conversations.

    Short for the steps that import the file and tokenise it; `get_loader` makes them when it is given a tokenizer.
    """

    path: InputFile
    text: tuple[str, ...] | None = None
    """Columns of text, joined by an empty line; every token counts in the loss."""
    template: str | None = None
    """`chat` for the tokenizer's chat template, or a template: what the assistant writes counts in the loss."""
    max_length: int | None = None

    @field_validator("text", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_form(self) -> "Source":
        if (self.text is None) == (self.template is None):
            raise RecipeError(
                "Source: give either `text` or `template`", 'Columns of text, or `template="chat"` for conversations.'
            )
        return self

    def tokens(self, tokenizer: Step[Files] | Step[Model]) -> Tokenize:
        """The step that makes the tokens."""
        rows = Import(path=self.path, require=())
        if self.text is not None:
            return Tokenize(rows=rows, tokenizer=tokenizer, text=self.text, max_length=self.max_length)
        template = None if self.template == "chat" else self.template
        talks = ToMessages(rows=rows)
        return Tokenize(rows=talks, tokenizer=tokenizer, template=template, max_length=self.max_length)
