"""Rows as files for other programs, and as a Hugging Face data set."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.names import file_name
from ..core.step import Step

if TYPE_CHECKING:
    from datasets import Dataset

ExportFormat = Literal["jsonl", "csv", "parquet"]


class Export(Step[Files], tag="rows.export/1"):
    """One file `<name>.<format>` with all rows, as `write_rows` writes it."""

    rows: Step[Rows]
    format: ExportFormat = "jsonl"
    name: str = "rows"
    lineage: bool = False
    """Also the columns `_id`, `_parents` and `_calls`."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return file_name(name)

    def run(self, context: Context) -> None:
        write_rows(context.get(self.rows), context.folder / f"{self.name}.{self.format}", lineage=self.lineage)


def write_rows(rows: Rows, path: str | os.PathLike[str], *, lineage: bool = False) -> Path:
    """Write all rows to a `.jsonl`, `.csv` or `.parquet` file, which appears when it is complete; returns its path.

    `Import` reads them back equal; from CSV as text, with nested values as JSON text and missing ones as empty text.
    Memory does not grow with the number of rows.
    """
    from ._export import WRITERS, replaced

    target = Path(path)
    writer = WRITERS.get(target.suffix.lower())
    if writer is None:
        raise RecipeError(f"`{target}`: cannot write this format", f"Name a file that ends in {', '.join(WRITERS)}.")
    with replaced(target) as temporary:
        writer(rows, temporary, lineage)
    return target


def to_dataset(rows: Rows, *, lineage: bool = False) -> "Dataset":
    """A `datasets.Dataset` made from the Parquet shards (needs the extra `hub`)."""
    from ._export import dataset_of

    return dataset_of(rows, lineage)
