"""How many rows each reason dropped."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq

from ..core.artifact import Rows


def dropped_by_reason(made: Rows) -> dict[str, int]:
    """The reasons of dropped rows with their numbers, the commonest first."""
    path = made.folder / "dropped.parquet"
    found: Counter[str] = Counter()
    if path.exists():
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["reason"], batch_size=65_536):
                for entry in batch.column("reason").value_counts().to_pylist():
                    found[entry["values"]] += entry["counts"]
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
