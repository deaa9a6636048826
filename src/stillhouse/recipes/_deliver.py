"""Writing the files of a distillation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.context import Context
from ..rows.export import write_rows

if TYPE_CHECKING:
    from .deliver import Deliver

PAGE_FILES = ("report.html", "report.json", "report.txt")


def write_files(step: Deliver, context: Context) -> None:
    folder = context.folder
    write_rows(context.get(step.traces), folder / "traces_cot.jsonl")
    write_rows(context.get(step.amplified), folder / "traces_amplified.jsonl")
    shutil.copyfile(context.get(step.policy).data / "report.json", folder / "task_policy.json")
    found = metrics_of(context.get(step.comparison).value)
    (folder / "metrics.json").write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    page = context.get(step.page).data
    for name in PAGE_FILES:
        if (page / name).exists():
            shutil.copyfile(page / name, folder / name)


def metrics_of(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a comparison without its rows: scores, differences from `after`, the same by slice."""
    pairs = [{name: value for name, value in pair.items() if name != "flips"} for pair in comparison["pairs"]]
    kept = ("num_items", "models", "after", "metrics", "alpha", "scores")
    return {**{name: comparison[name] for name in kept}, "pairs": pairs, "slices": comparison["slices"]}
