"""Artifacts: results on disk. Immutable folders of five kinds, each with a `record.json` beside its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .outcome import Row

if TYPE_CHECKING:
    import pyarrow as pa


class Artifact:
    """A finished result. `data` holds its files, `record` how it came to be."""

    kind: ClassVar[str] = "Artifact"

    def __init__(self, folder: Path, record: Mapping[str, Any], output: str | None = None) -> None:
        self.folder = folder
        self.record = record
        self._output = output

    @property
    def data(self) -> Path:
        """The folder of the result's own files."""
        return self.folder / "data" if self._output is None else self.folder / "data" / self._output

    @property
    def key(self) -> str:
        """The build key, by which the store finds it."""
        return str(self.record["build_key"])

    @property
    def digest(self) -> str:
        """Digest of the content: equal for equal results, however they came to be."""
        if self._output is None:
            return str(self.record["digest"])
        return str(self.record["outputs"][self._output]["digest"])

    @property
    def unanswered(self) -> int:
        """Rows that got no answer: the result stands in the run that made it, and the next run asks for them again."""
        return int(self.record.get("counts", {}).get("unanswered", 0))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key[:8]} {self.data}>"


class Rows(Artifact):
    """A table. Iterating gives one dict for each row: `_id` and the user's columns."""

    kind = "Rows"

    def __len__(self) -> int:
        source = self.record["counts"] if self._output is None else self.record["outputs"][self._output]
        return int(source["out"])

    @property
    def paths(self) -> list[Path]:
        """The Parquet shards, in order."""
        return sorted(self.data.glob("rows-*.parquet"))

    @property
    def schema(self) -> pa.Schema:
        from ._tables import schema_of

        return schema_of(self.paths)

    @property
    def columns(self) -> list[str]:
        """Names of the user's columns."""
        return [name for name in self.schema.names if not name.startswith("_")]

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch

    def batches(self, size: int = 1024, *, lineage: bool = False) -> Iterator[list[Row]]:
        """Rows in lists of `size`; with `lineage` also `_parents` (row ids) and `_calls` (call keys)."""
        from ._tables import row_batches

        return row_batches(self.paths, size, lineage)

    def arrow_batches(self, size: int = 8192) -> Iterator[pa.RecordBatch]:
        """Arrow batches with all columns, lineage included, in constant memory."""
        from ._tables import arrow_batches

        return arrow_batches(self.paths, size)

    def head(self, num_rows: int = 5) -> list[Row]:
        """The first rows."""
        return next(self.batches(num_rows), []) if num_rows > 0 else []

    def dropped(self) -> Iterator[Row]:
        """Rows that were judged and not wanted: `_id`, `reason`, `detail`, `row` (JSON text)."""
        return self._aside("dropped")

    def failed(self) -> Iterator[Row]:
        """Rows that could not be made: `_id` of the row they come from, `kind`, `message`, `raw`, `row` (JSON text)."""
        return self._aside("failed")

    def _aside(self, name: str) -> Iterator[Row]:
        from ._tables import plain_rows

        path = self.aside_path(name)
        return plain_rows(path) if path.exists() else iter(())

    def aside_path(self, name: str) -> Path:
        """The file of `dropped` or `failed` rows; it is there only where there are any."""
        return (self.folder if self._output is None else self.data) / f"{name}.parquet"


def columns_of(schema: pa.Schema) -> list[tuple[str, str]]:
    """Names and types of columns, as they compare."""
    return [(field.name, str(field.type).replace("<element:", "<item:")) for field in schema]  # Parquet's word for it


class Tokens(Artifact):
    """Token files with their document index; read with `stillhouse.tokens`."""

    kind = "Tokens"


class Model(Artifact):
    """A folder that `transformers` (or PEFT, for an adapter) loads, tokenizer and chat template included."""

    kind = "Model"

    @property
    def path(self) -> Path:
        return self.data


class Files(Artifact):
    """A digested folder: a tokenizer, an index, an export."""

    kind = "Files"

    @property
    def path(self) -> Path:
        return self.data


class Report(Artifact):
    """Findings: `report.json` for programs and, where there is one, `report.html` for people."""

    kind = "Report"

    @property
    def value(self) -> dict[str, Any]:
        """The findings as plain data."""
        import json

        found: dict[str, Any] = json.loads((self.data / "report.json").read_text())
        return found

    @property
    def html(self) -> Path:
        return self.data / "report.html"

    def __str__(self) -> str:
        text = self.data / "report.txt"
        return text.read_text().rstrip("\n") if text.exists() else repr(self)


KINDS: dict[str, type[Artifact]] = {kind.kind: kind for kind in (Rows, Tokens, Model, Files, Report)}
