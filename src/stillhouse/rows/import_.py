"""Rows from a file or from a Python list."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.files import InputFile
from ..core.step import Step

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

Format = Literal["json", "jsonl", "csv", "tsv", "parquet"]
FORMATS: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Import(Step[Rows], tag="rows.import/1"):
    """The rows of a JSON, JSONL, CSV, TSV or Parquet file, or of a Python list, in their order.

    `input`, `output` and `thinking` are text: other values there are kept as their JSON text. Text files are UTF-8. A
    file is read piece by piece, so its size does not matter. What cannot be read raises `RecipeError` with file, line
    and column.
    """

    path: InputFile | None = None
    data: tuple[Mapping[str, Any], ...] | None = None
    format: Format | None = None
    """None goes by the file's extension."""
    columns: tuple[str, ...] | None = None
    """The columns to take; None takes all."""
    require: tuple[str, ...] = ("input", "output")
    """Columns that every row must have; `()` for rows that are no tasks."""

    @model_validator(mode="after")
    def _has_one_source(self) -> "Import":
        if (self.path is None) == (self.data is None):
            raise RecipeError("Import: give either `path` or `data`", 'For instance `Import(path="seeds.jsonl")`.')
        if self.path is not None and self.format is None and self._extension() not in FORMATS:
            raise RecipeError(
                f"Import: the extension of `{self.path}` does not tell its format",
                f"Give `format`, or a file that ends in {', '.join(FORMATS)}.",
            )
        missing = [name for name in self.require if self.columns is not None and name not in self.columns]
        if missing:
            raise RecipeError(
                f"Import: `{missing[0]}` is required, but not among `columns`",
                "Add it there, or take it out of `require`.",
            )
        return self

    def identity(self) -> Mapping[str, Any]:
        """Fields that differ from their default, and the format that was meant: a file's name itself does not count."""
        return {**self.values(), "format": self.resolved_format}

    @property
    def resolved_format(self) -> Format | None:
        """`format`, or what the extension says; None for `data`."""
        return self.format or (None if self.path is None else FORMATS[self._extension()])

    def _extension(self) -> str:
        return PurePath(str(self.path)).suffix.lower()

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """The number of rows, where it can be counted without reading them."""
        from ..core.plan import Expectation
        from ._import import counted

        del rows_in, session
        return Expectation(rows=counted(self))

    def run(self, context: Context) -> None:
        from ._import import write_imported

        write_imported(self, context)
