"""Rows that a loader reads tokens from: files, data sets of the hub, or what a step makes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Files, Model, Rows
from ..core.errors import RecipeError
from ..core.part import Part
from ..core.step import Step
from ..rows.conversation import ToMessages
from ..rows.import_ import Import, Places
from ..rows.place import Content, Format
from ..text.pretrained_tokenizer import tokenizer_step
from .tokenize import Tokenize


class Source(Part, tag="tokens.source/1"):
    """`Source("data/web/*.parquet", text="content")`, or `Source("chats.jsonl", template="chat")` for conversations.

    Short for the steps that import rows and tokenise them; `get_loader` makes them when it is given a tokenizer.
    The place is what `Import` takes (files, patterns, folders, `hf://owner/name`, `s3://…`, lists of these), perhaps
    with its format in front (`parquet://data/web/*`). In its stead `rows` takes a step that makes rows. Names of files
    do not count, their content does.
    """

    path: Places = None
    rows: Step[Rows] | None = Field(None, description="a step that makes the rows, in place of `path`")
    text: tuple[str, ...] | None = None
    """Columns of text, joined by an empty line; every token counts in the loss."""
    template: str | None = None
    """`chat` for the tokenizer's chat template, or a template: what the assistant writes counts in the loss."""
    max_length: int | None = Field(None, ge=2, description="longer rows are rejected, in tokens")
    weight: str | None = Field(None, description="column with the weight of each example in the loss")
    source: str = Field("", description="name that the documents carry, to tell sources apart")
    split: str | None = Field(None, description="the split to take of a data set that has several")
    format: Format | None = Field(None, description="how the files are read; None goes by their extensions")
    columns: tuple[str, ...] | None = Field(None, description="columns to take along; None takes all")

    def __init__(self, path: Any = None, **fields: Any) -> None:
        if isinstance(path, Step):
            fields["rows"] = path
        elif path is not None:
            fields["path"] = path
        super().__init__(**fields)

    @field_validator("text", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_form(self) -> "Source":
        if (self.path is None) == (self.rows is None):
            raise RecipeError(
                "Source: give either a place or `rows`",
                'For instance `Source("web.jsonl", text="text")`, or `rows=` with a step that makes rows.',
            )
        if (self.text is None) == (self.template is None):
            raise RecipeError(
                "Source: give either `text` or `template`", 'Columns of text, or `template="chat"` for conversations.'
            )
        told = [name for name in ("split", "format", "columns") if getattr(self, name) is not None]
        if self.rows is not None and told:
            raise RecipeError(f"Source: `{told[0]}` is for files, not for `rows`", "Give it to the step of the rows.")
        lacking = [name for name in self.needs if self.columns is not None and name not in self.columns]
        if lacking:
            raise RecipeError(f"Source: `{lacking[0]}` is needed, but not among `columns`", "Add it there.")
        self.as_rows()  # tells at once what is wrong with the place
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that it must have; conversations have several forms, and tell of theirs when they are read."""
        return (*(self.text or ()), *([self.weight] if self.weight else []))

    def identity(self) -> Mapping[str, Any]:
        """Fields that differ from their default; of a place what is read there, not its name."""
        fields = self.values()
        if self.path is not None:
            places = self.path if isinstance(self.path, tuple) else (self.path,)
            fields["path"] = Content(places, self.format, self.split)
            fields.pop("split", None)
        return fields

    def as_rows(self) -> Step[Rows]:
        """The step that makes the rows as they are read, before any of them becomes a conversation."""
        if self.rows is not None:
            return self.rows
        told = {name: getattr(self, name) for name in ("split", "format", "columns")}
        return Import(path=self.path, require=(), **{name: value for name, value in told.items() if value is not None})

    def tokens(self, tokenizer: Step[Files] | Step[Model] | str | Path) -> Tokenize:
        """The step that makes the tokens. A text is a tokenizer's name on the hub or its folder."""
        told = {"max_length": self.max_length, "weight": self.weight, "source": self.source}
        given = {name: value for name, value in told.items() if value}
        read = tokenizer_step(tokenizer)
        if self.text is not None:
            return Tokenize(rows=self.as_rows(), tokenizer=read, text=self.text, **given)
        template = None if self.template == "chat" else self.template
        return Tokenize(rows=ToMessages(rows=self.as_rows()), tokenizer=read, template=template, **given)
