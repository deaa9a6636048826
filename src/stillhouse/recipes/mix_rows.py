"""Functions for rows of data sets that the shipped mixes name."""

from __future__ import annotations

from typing import Any

from ..core.errors import RowFault

_SENTIMENTS = {0: "negative", 1: "positive"}


def sst2_conversation(row: dict[str, Any]) -> dict[str, str]:
    """A row of SST-2 (`sentence`, `label`) as a question and its answer."""
    answer = _SENTIMENTS.get(row["label"])
    if answer is None:  # the test split of GLUE has -1
        raise RowFault("invalid", f"`label` is {row['label']!r}, expected 0 or 1")
    question = f"Is the sentiment of this sentence positive or negative?\n\n{row['sentence'].strip()}"
    return {"input": question, "output": answer}
