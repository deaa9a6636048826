"""Rows from files, from data sets of the hub, or from a Python list."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from .place import FORMATS, Content, Format, Place, places_of

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

Places = Annotated[Place | tuple[Place, ...] | None, PlainValidator(places_of, json_schema_input_type=str | list[str])]
"""A field for one place or a list of them."""


class Import(Step[Rows], tag="rows.import/1"):
    """The rows of files, of a data set of the hub, or of a Python list, in their order.

    `path` is a file (JSON, JSONL, CSV, TSV, Parquet, Arrow; text also compressed), a pattern (`data/*.parquet`), a
    folder (of files, or one that `save_to_disk` wrote), `hf://owner/name@revision:config`, an address that fsspec
    opens (`s3://…`, `https://…`), or a list of these. Names do not count, the content does, in its order: of the hub
    the commit that the name stands for when it is planned.

    `input`, `output` and `thinking` are text: other values there are kept as their JSON text. Text files are UTF-8. A
    file is read piece by piece, so its size does not matter. What cannot be read raises `RecipeError` with file, line
    and column.
    """

    path: Places = None
    data: tuple[Mapping[str, Any], ...] | None = None
    format: Format | None = None
    """None goes by the files' extensions."""
    columns: tuple[str, ...] | None = None
    """The columns to take; None takes all."""
    require: tuple[str, ...] = ("input", "output")
    """Columns that every row must have; `()` for rows that are no tasks."""
    split: str | None = None
    """Of a data set of the hub, or a folder that `save_to_disk` wrote: the split to take, where it has several."""

    @model_validator(mode="after")
    def _has_one_source(self) -> "Import":
        if (self.path is None) == (self.data is None):
            raise RecipeError("Import: give either `path` or `data`", 'For instance `Import(path="seeds.jsonl")`.')
        if self.data is not None and self.split is not None:
            raise RecipeError("Import: `data` has no splits", "Leave `split` out.")
        self._check_formats()
        missing = [name for name in self.require if self.columns is not None and name not in self.columns]
        if missing:
            raise RecipeError(
                f"Import: `{missing[0]}` is required, but not among `columns`",
                "Add it there, or take it out of `require`.",
            )
        return self

    def _check_formats(self) -> None:
        for place in self.places:
            named = place.named_format
            if self.format is not None and named not in (None, self.format):
                raise RecipeError(f"Import: `{place}` says {named}, and `format` says {self.format}", "Say it once.")
            if (self.format or place.format) is None and not place.scheme and not place.is_pattern:
                raise RecipeError(
                    f"Import: the extension of `{place}` does not tell its format",
                    f"Give `format`, or a file that ends in {', '.join(FORMATS)}.",
                )

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the rows lie; none for `data`."""
        return () if self.path is None else self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def content(self) -> Content | None:
        """What is read, as it counts; None for `data`."""
        return None if self.path is None else Content(self.places, self.format, self.split)

    def identity(self) -> Mapping[str, Any]:
        """Fields that differ from their default, and the format that was meant: a file's name itself does not count."""
        fields = {**self.values(), "format": self.resolved_format}
        if self.path is not None:
            fields["path"] = self.content
            fields.pop("split", None)  # it shows in what is read
        return fields

    @property
    def resolved_format(self) -> Format | None:
        """`format`, or what the first place tells; None for `data`, and where each file tells it."""
        return self.format or (self.places[0].format if self.places else None)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """The number of rows, where it can be counted without reading them."""
        from ..core.plan import Expectation
        from ._import import counted

        del rows_in, session
        return Expectation(rows=counted(self))

    def run(self, context: Context) -> None:
        from ._import import write_imported

        write_imported(self, context)


def behind(step: Step[Any]) -> Iterator[Step[Any]]:
    """A step and all that it is made from, each once."""
    coming, seen = [step], {step.structure}
    while coming:
        one = coming.pop()
        yield one
        for inner in one.inputs():
            if inner.structure not in seen:
                seen.add(inner.structure)
                coming.append(inner)


def places_behind(rows: Step[Any]) -> list[str]:
    """Where the rows of a step were read from, as it was named; for errors."""
    found = (str(place) for one in behind(rows) if isinstance(one, Import) for place in one.places)
    return list(dict.fromkeys(found))
