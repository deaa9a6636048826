"""Personas, and texts that they would write or ask for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Asked, Column, check_samples, readable
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

PERSONA_KINDS: dict[str, str] = {
    "instruction": "Write an instruction that this person might give to an assistant.",
    "knowledge": "Write an article of a few paragraphs about something that this person knows well.",
    "math": "Write a math problem that comes up in this person's life. Do not solve it.",
    "reasoning": "Write a problem of logical reasoning that comes up in this person's life. Do not solve it.",
    "character": "Write a short description of this person as a character in a game: name, history, manner of speech.",
    "tool": "Describe a tool (a function with its parameters) that would be of use to this person.",
}
"""What can be asked for by name with a persona."""


class TextToPersona(MapStep, tag="generate.text_to_persona/1"):
    """Adds a persona to each row: who is likely to read, write, like or dislike the text in `input` (text-to-persona of
    Persona Hub, Ge et al. 2024, arXiv 2406.20094).

    `samples` above 1 gives as many rows, numbered in the column `sample`.
    """

    by: Asked
    input: str = Field("text", min_length=1)
    column: Column = "persona"
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "TextToPersona":
        check_samples(self.by, self.samples)
        return self

    def asks_about(self) -> Sequence[str]:
        """The text."""
        return (self.input,)

    def mapper(self, context: Context) -> Mapper:
        from ._drawn import drawer

        return drawer(self, context, "persona")

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        return expected(self.by, session, rows=rows, calls=rows, prompt=1800, reply=250)


class PersonaToPersona(MapStep, tag="generate.persona_to_persona/1"):
    """New personas, `each` for every row, that stand in a close relation to the one in `input`: patient and nurse
    (persona-to-persona of Persona Hub, Ge et al. 2024, arXiv 2406.20094).

    The new rows have the persona in `input` and the `relation`; their parent is the persona they were drawn from. One
    step after the other goes further: six are what the paper does. Near-duplicates are for `Dedup` to take out.
    """

    by: Asked
    input: Column = "persona"
    each: int = Field(3, ge=1, le=50)

    def asks_about(self) -> Sequence[str]:
        """The persona."""
        return (self.input,)

    def mapper(self, context: Context) -> Mapper:
        from ._personas import relator

        return relator(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row."""
        rows = None if rows_in is None else rows_in * self.each
        return expected(self.by, session, rows=rows, calls=rows_in, prompt=700, reply=200 * self.each)


class PersonaPrompt(MapStep, tag="generate.persona_prompt/1"):
    """A text for each persona and each kind of text (persona-driven synthesis, Ge et al. 2024, arXiv 2406.20094).

    `kinds` are names of `PERSONA_KINDS` (`instruction`, `knowledge`, `math`, `reasoning`, `character`, `tool`), or a
    mapping of names to what is asked for, as templates. The rows have the persona's columns, the `kind`, and the reply
    in `column`; with `samples` above 1 also the number of the `sample`.
    """

    by: Asked
    input: str = Field("persona", min_length=1)
    kinds: tuple[str, ...] | Mapping[str, str] = ("instruction",)
    column: Column = "text"
    samples: int = Field(1, ge=1)

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: tuple[str, ...] | Mapping[str, str]) -> tuple[str, ...] | Mapping[str, str]:
        if not kinds:
            raise ValueError("there are no kinds of text")
        if isinstance(kinds, Mapping):
            for template in kinds.values():
                readable(template)
            return kinds
        unknown = [name for name in kinds if name not in PERSONA_KINDS]
        if unknown:
            raise ValueError(f"`{unknown[0]}` is none of {', '.join(PERSONA_KINDS)}; or give {{name: words}}")
        return kinds

    @model_validator(mode="after")
    def _samples_differ(self) -> "PersonaPrompt":
        check_samples(self.by, self.samples)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the kinds, in which they are asked for."""
        return {**self.values(), "order": tuple(self.kinds)}

    def asks_about(self) -> Sequence[str]:
        """The persona, and what the words of the kinds read."""
        from .template import columns_read

        return (self.input, *columns_read(*(self.kinds.values() if isinstance(self.kinds, Mapping) else ())))

    def mapper(self, context: Context) -> Mapper:
        from ._personas import persona_asker

        return persona_asker(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each persona, kind and sample."""
        rows = None if rows_in is None else rows_in * len(self.kinds) * self.samples
        return expected(self.by, session, rows=rows, calls=rows, prompt=500, reply=800)
