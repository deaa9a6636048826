"""What became of the rows on the way to a result: asked for, failed, dropped and why, kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.artifact import Artifact

if TYPE_CHECKING:
    from ..core.store import Store

# What differs from row to row in a reason: row ids, keys and numbers.
_PARTICULAR = re.compile(r"\b(?:[0-9a-f]{24}|[0-9a-f]{32}|[0-9]+(?:[.,][0-9]+)*)\b")


class Stage(NamedTuple):
    """One step that made rows; `rows_in` is None where it reads none. Reasons are counted, the commonest first."""

    tag: str
    build_key: str
    rows_in: int | None
    out: int
    dropped: int
    failed: int
    reasons: Mapping[str, int]
    faults: Mapping[str, int]


def funnel(store: Store, artifact: Artifact) -> list[Stage]:
    """The stages of the rows that `artifact` is made from, and its own, inputs first.

    Records that are gone are left out. Reasons that differ only in row ids and numbers count as one.
    """
    records = _records(store, artifact.key)
    return [_stage(store, record, records) for record in records.values() if record["kind"] == "Rows"]


def funnel_text(stages: list[Stage]) -> str:
    """The stages as a table for a terminal."""
    from ..rows.preview import preview

    lines = []
    for stage in stages:
        told = [f"{reason} ({number:,})" for reason, number in [*stage.reasons.items(), *stage.faults.items()][:4]]
        lines.append(
            {
                "step": stage.tag.partition("/")[0],
                "in": stage.rows_in,
                "out": stage.out,
                "dropped": stage.dropped,
                "failed": stage.failed,
                "why": ", ".join(told),
            }
        )
    return preview(lines, len(lines), width=120)


def _records(store: Store, build_key: str) -> dict[str, dict[str, Any]]:
    """The records behind a result by build key, inputs before what is made from them."""
    from ..core.store import read_record

    found: dict[str, dict[str, Any]] = {}

    def visit(key: str) -> None:
        record = None if key in found else read_record(store.artifact_folder(key))
        if record is not None:
            for entry in record["inputs"]:
                visit(entry["build_key"])
            found[key] = record

    visit(build_key)
    return found


def _stage(store: Store, record: dict[str, Any], records: Mapping[str, dict[str, Any]]) -> Stage:
    counts = record["counts"]
    sources = [entry for entry in record["inputs"] if records.get(entry["build_key"], {}).get("kind") == "Rows"]
    rows_in = None
    if sources:
        rows_in = counts.get("in", sum(_num_rows(records[entry["build_key"]], entry["output"]) for entry in sources))
    return Stage(
        record["tag"],
        record["build_key"],
        rows_in,
        counts["out"],
        counts.get("dropped", 0),
        counts.get("failed", 0),
        _counted(store, record, "dropped", "reason"),
        _counted(store, record, "failed", "kind"),
    )


def _num_rows(record: dict[str, Any], output: str | None) -> int:
    return int(record["counts"]["out"] if output is None else record["outputs"][output]["out"])


def _counted(store: Store, record: dict[str, Any], aside: str, column: str) -> dict[str, int]:
    if not record["counts"].get(aside):
        return {}
    import pyarrow.parquet as pq

    folder = store.artifact_folder(record["build_key"])
    found: Counter[str] = Counter()
    for path in [*folder.glob(f"{aside}.parquet"), *folder.glob(f"data/*/{aside}.parquet")]:
        for entry in pq.read_table(path, columns=[column]).column(column).value_counts().to_pylist():
            found[_PARTICULAR.sub("…", entry["values"])] += entry["counts"]
    return dict(found.most_common())
