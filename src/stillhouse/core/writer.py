"""Writing rows: what a whole step keeps, makes, drops and fails, with ids, reasons and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import RowFault
from .outcome import content_of

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 4096
PART_BYTES = 64 << 20


class RowsWriter:
    """Collects the rows of one table. Use it in a `with` block, or call `close` at the end.

    Memory is bounded by `PART_ROWS` rows, and of new ones by `PART_BYTES` of content: what is full goes to disk as an
    Arrow part, and `close` turns the parts into Parquet shards under `data`.
    """

    def __init__(self, data: Path, parts: Path, aside: Path) -> None:
        from ._tables import Occurrences, RowBuffer

        self._data, self._parts_folder, self._aside_folder = data, parts, aside
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        self._parts: dict[str, list[Path]] = {"rows": [], "dropped": [], "failed": []}
        self._buffer = RowBuffer.empty()
        self._size = 0
        self._aside: dict[str, list[dict[str, Any]]] = {"dropped": [], "failed": []}
        self._occurrences = Occurrences()
        self.counts = {"out": 0, "dropped": 0, "failed": 0}
        self.digest = ""

    def keep(self, row: Mapping[str, Any], parents: Sequence[str] = (), calls: Sequence[str] = ()) -> None:
        """The row passes unchanged and keeps its id (and, when given, its lineage)."""
        if not parents and "_parents" in row:
            parents, calls = row["_parents"] or (), row.get("_calls") or ()
        self._put(row["_id"], parents, calls, row)

    def emit(self, content: Mapping[str, Any], parents: Sequence[str] = (), calls: Sequence[str] = ()) -> str:
        """A new row made from `parents` (row ids); returns its id. Raises `RowFault` for what no table can hold."""
        from ._tables import content_bytes, row_id

        own = content_of(content)
        data = content_bytes(own)
        made = row_id(parents, data, self._occurrences.count(",".join(parents).encode() + b"\n" + data))
        self._size += len(data)
        self._put(made, parents, calls, own)
        return made

    def drop(self, row: Mapping[str, Any], reason: str, detail: str | None = None) -> None:
        """The row is not wanted; it goes to `dropped.parquet` with the reason."""
        from ._tables import row_text

        record = {"_id": row.get("_id"), "reason": reason, "detail": detail, "row": row_text(row)}
        self._put_aside("dropped", record)

    def fail(self, row: Mapping[str, Any], kind: str, message: str, raw: str | None = None) -> None:
        """The row could not be made; it goes to `failed.parquet` with the error."""
        from ._tables import row_text

        record = {"_id": row.get("_id"), "kind": kind, "message": message, "raw": raw, "row": row_text(row)}
        self._put_aside("failed", record)

    def fault(self, row: Mapping[str, Any], fault: RowFault) -> None:
        """The same for a `RowFault` that was raised."""
        self.fail(row, fault.kind, fault.message, fault.raw)

    def write_table(self, table: pa.Table) -> None:
        """Rows that keep their ids, as an Arrow table with `_id`, `_parents`, `_calls` and content columns."""
        from ._tables import table_bytes

        self._flush_rows()
        self.counts["out"] += table.num_rows
        self._part("rows", table_bytes(table))

    def _put(self, row: str, parents: Sequence[str], calls: Sequence[str], content: Mapping[str, Any]) -> None:
        self._buffer.add(row, parents, calls, content)
        self.counts["out"] += 1
        if len(self._buffer.ids) >= PART_ROWS or self._size >= PART_BYTES:
            self._flush_rows()

    def _put_aside(self, kind: str, record: dict[str, Any]) -> None:
        self._aside[kind].append(record)
        self.counts[kind] += 1
        if len(self._aside[kind]) >= PART_ROWS:
            self._flush_aside(kind)

    def _flush_rows(self) -> None:
        from ._tables import RowBuffer, table_bytes

        if self._buffer.ids:
            self._part("rows", table_bytes(self._buffer.table()))
            self._buffer = RowBuffer.empty()
            self._size = 0

    def _flush_aside(self, kind: str) -> None:
        from ._tables import aside_table, table_bytes

        if self._aside[kind]:
            self._part(kind, table_bytes(aside_table(kind, self._aside[kind])))
            self._aside[kind] = []

    def _part(self, kind: str, data: bytes) -> None:
        path = self._parts_folder / f"{kind}-{len(self._parts[kind]):06d}.arrow"
        path.write_bytes(data)
        self._parts[kind].append(path)

    def close(self) -> None:
        """Write the Parquet files; `counts` and `digest` are final after this."""
        from ._tables import merge_aside, merge_parts

        self._flush_rows()
        _, self.digest = merge_parts(self._parts["rows"], self._data)
        for kind in ("dropped", "failed"):
            self._flush_aside(kind)
            merge_aside(kind, self._parts[kind], self._aside_folder / f"{kind}.parquet")
        for paths in self._parts.values():
            for path in paths:
                path.unlink()
        self._parts = {"rows": [], "dropped": [], "failed": []}

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
