"""One question, or several, for each row."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..calls.ask import Ask
from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..text.schema import Schema
from .checks import Column, Instruction, check_samples, check_tools, check_unpack, readable
from .expectation import expected
from .output import Kept, layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Prompt(MapStep, tag="generate.prompt/1"):
    """Fills `template` with the columns of each row, asks `by`, and adds the reply as `column`.

    The template is Jinja in a sandbox: `Translate into French: {{ text }}`. Several templates by name give a row for
    each, with the name in the column `template`; `samples` above 1 gives as many rows, numbered in the column `sample`.
    `system` is a template for a system message. `messages` names a column with a conversation: the filled template is
    its next message, and may be left out where the last one is the user's. `images` names columns with images, by path
    or URL, one or a list of them, which are shown before the template's text.

    With a `response` schema the reply must follow it and the column holds its JSON text, or, with `unpack`, each field
    of it becomes a column. What cannot be used fails with the reply's text, beside what came of the row's other calls.

    `keep` makes columns of what else an answer holds, called `reply_finish` and so on: how it ended (`finish`: `length`
    where it is cut and `when_cut="keep"`), the `model` that it names, its `reasoning`, the `tool_calls` that it wants
    (arguments as JSON text), the `logprobs` of its tokens.
    """

    by: Ask
    template: str | Mapping[str, str] | None = None
    column: Column = "reply"
    response: Schema | None = None
    samples: int = Field(1, ge=1)
    system: Instruction | None = None
    messages: str | None = None
    images: tuple[str, ...] = ()
    unpack: bool = False
    keep: tuple[Kept, ...] = ()

    @field_validator("images", "keep", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("template")
    @classmethod
    def _readable(cls, template: str | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
        for text in template.values() if isinstance(template, Mapping) else () if template is None else (template,):
            readable(text)
        return template

    @model_validator(mode="after")
    def _whole(self) -> "Prompt":
        if self.template is None and self.messages is None:
            raise ValueError("give a `template`, or the column of a conversation in `messages`")
        if isinstance(self.template, Mapping) and not self.template:
            raise ValueError("`template` names no template")
        if self.system is not None and self.by.system is not None:
            raise ValueError("there are two system prompts: `system`, and that of the `Ask`; give one of them")
        if self.images and self.template is None:
            raise ValueError("`images` are shown with a `template`, and there is none")
        check_samples(self.by, self.samples)
        check_unpack(self.response, self.unpack)
        check_tools(self.by, self.keep)
        return self

    @property
    def templates(self) -> Mapping[str, str] | None:
        """The templates where they have names."""
        return self.template if isinstance(self.template, Mapping) else None

    def identity(self) -> Mapping[str, Any]:
        """The fields, the order of the schema's fields, in which the JSON text is written, and that of templates."""
        order = {"order": tuple(self.templates)} if self.templates else {}
        shape = {"layout": layout(self.response)} if self.response else {}
        return {**self.values(), **order, **shape}

    def asks_about(self) -> Sequence[str]:
        """What its templates read, the images, and the conversation."""
        from .template import columns_read

        filled = (self.template,) if self.template is None or isinstance(self.template, str) else self.template.values()
        return (*columns_read(*filled, self.system), *self.images, *((self.messages,) if self.messages else ()))

    def mapper(self, context: Context) -> Mapper:
        from ._prompt import prompter

        return prompter(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row, template and sample."""
        templates = list(self.templates.values()) if self.templates else [str(self.template or "")]
        rows = None if rows_in is None else rows_in * len(templates) * self.samples
        longest = sum(map(len, templates)) // len(templates) + len(self.system or "") + (800 if self.messages else 0)
        return expected(self.by, session, rows=rows, calls=rows, prompt=longest + 200, reply=400)
