"""What the store holds, read from the records on disk: the ground of the views over artifacts and rows."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "recipe_key", "kind", "step")),
        ("names", pa.list_(pa.string())),
        ("finished", pa.timestamp("us")),
        ("seconds", pa.float64()),
        *((name, pa.int64()) for name in ("num_rows", "dropped", "failed")),
        ("num_calls", pa.int64()),
        ("cost_usd", pa.float64()),
        ("size_bytes", pa.int64()),
        *((name, pa.string()) for name in ("digest", "inputs", "record")),
    ]
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One artifact: its folder, its record and the names that point to it now."""

    folder: Path
    record: dict[str, Any]
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def step(self) -> str:
        return str(self.record.get("tag", ""))

    def tables(self) -> Iterator[tuple[str | None, list[str]]]:
        """The Parquet shards of each output, as the record lists them; nothing for what is no table."""
        if self.record.get("kind") != "Rows":
            return
        shards: dict[str | None, list[str]] = {}
        for entry in self.record.get("files", []):
            parts = entry["path"].split("/")
            if (
                parts[0] == "data"
                and parts[-1].endswith(".parquet")
                and parts[-1] not in ("dropped.parquet", "failed.parquet")
            ):
                output = parts[1] if len(parts) == 3 else None
                shards.setdefault(output, []).append(str(self.folder / entry["path"]))
        for output in sorted(shards, key=str):
            yield output, sorted(shards[output])

    def asides(self, kind: str) -> list[str]:
        """The files of dropped or failed rows."""
        found = [entry["path"] for entry in self.record.get("files", [])]
        return [str(self.folder / path) for path in found if path.rpartition("/")[2] == f"{kind}.parquet"]


def kept_artifacts(store: Path, warn: Callable[[str], None]) -> list[Kept]:
    """The artifacts of a store by key; a record that cannot be read is passed over with a warning."""
    names = _names(store)
    found = []
    for path in sorted((store / "artifacts-v1").glob("*/*/record.json")):
        try:
            record = json.loads(path.read_bytes())
            if not isinstance(record, dict):
                raise ValueError("it holds no object")
        except (OSError, ValueError) as error:
            warn(f"`{os.path.relpath(path, store)}` cannot be read and is left out: {error}")
            continue
        found.append(Kept(path.parent, record, tuple(names.get(path.parent.name, ()))))
    return found


def artifact_table(kept: Sequence[Kept]) -> pa.Table:
    return pa.Table.from_pylist([_row(artifact) for artifact in kept], schema=SCHEMA)


def _row(artifact: Kept) -> dict[str, Any]:
    record = artifact.record
    counts = record.get("counts") or {}
    finished = record.get("finished")
    started = record.get("started")
    bill = (record.get("calls") or {}).get("total", {})
    return {
        "key": artifact.key,
        "recipe_key": record.get("recipe_key"),
        "kind": record.get("kind"),
        "step": artifact.step,
        "names": list(artifact.names),
        "finished": None if finished is None else dt.datetime.fromtimestamp(finished, dt.UTC).replace(tzinfo=None),
        "seconds": None if finished is None or started is None else finished - started,
        "num_rows": counts.get("out"),
        "dropped": counts.get("dropped"),
        "failed": counts.get("failed"),
        "num_calls": bill.get("calls"),
        "cost_usd": bill.get("cost_usd"),
        "size_bytes": sum(entry.get("size", 0) for entry in record.get("files", [])),
        "digest": record.get("digest"),
        "inputs": json.dumps(record.get("inputs")),
        "record": json.dumps(record),
    }


def _names(store: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted((store / "names").glob("*.json")):
        try:
            found.setdefault(json.loads(path.read_bytes())["build_key"], []).append(path.stem)
        except (OSError, ValueError, KeyError):
            continue
    return found
