"""The work behind `pack`: a store of links with the plan in it, and a note of how its rows are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.context import Context
from ..core.errors import StoreError
from ._epochs import plan_key
from ._packing import make_plan
from ._plan_files import FOLDER, PlanKey, write_plan
from .packing import Packing
from .store import TokenStore, link_store

if TYPE_CHECKING:
    from .pack import Pack

NOTE = "packing.json"
_FORMAT = "stillhouse-packing/1"
SOURCE = "data"
"""What a loader calls the only source that it is given."""


class Packed(NamedTuple):
    """How the rows of packed tokens are made."""

    seq_len: int
    packing: Packing
    seed: int


def pack(step: Pack, context: Context) -> None:
    """Run the step `Pack`."""
    store = TokenStore(context.get(step.tokens).data)
    target = context.folder
    link_store(store, target)
    made = TokenStore(target)
    for epoch in range(step.epochs if step.packing.renewed else 1):
        key = PlanKey(step.packing, step.seq_len, plan_key(step.seed, SOURCE, epoch))
        plan = make_plan(step.packing, store.lengths, step.seq_len, key.key, lambda number: store.row_ids([number])[0])
        write_plan(target / FOLDER / key.file_name(made), plan)
        if epoch == 0:
            report = plan.report
    _write_long(step, store, target)
    described = {"method": step.packing.method, **step.packing.values()}
    note = {"format": _FORMAT, "seq_len": step.seq_len, "packing": described, "seed": step.seed, **asdict(report)}
    (target / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    context.note(**asdict(report))
    if report.num_left_out:
        context.warn(
            f"{report.num_left_out} of {report.num_documents} documents ({report.tokens_left_out} tokens) are longer "
            f"than a row and left out; see `left_out.jsonl`"
        )


def _write_long(step: Pack, store: TokenStore, target: Path) -> None:
    """The documents that are longer than a row, in the file that says what became of them."""
    long: list[int] = []
    if step.packing.method != "concat":  # where any document may be cut, long or not
        long = np.flatnonzero(store.lengths > step.seq_len).tolist()
    kept = step.packing.too_long == "split"
    _write_lines(target / "split.jsonl", store, long if kept else [])
    _write_lines(target / "left_out.jsonl", store, [] if kept else long)


def _write_lines(path: Path, store: TokenStore, numbers: Sequence[int]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, len(numbers), 4096):
            chosen = numbers[first : first + 4096]
            for number, row_id in zip(chosen, store.row_ids(chosen), strict=True):
                line = {"row_id": row_id, "document": number, "tokens": int(store.lengths[number])}
                file.write(json.dumps(line) + "\n")


def packed_note(folder: Path) -> Packed | None:
    """How the rows of the store in `folder` are made; None where its tokens are not packed."""
    path = folder / NOTE
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["format"] != _FORMAT:
            raise StoreError(f"`{path}` has the format `{note['format']}`, expected `{_FORMAT}`")
        return Packed(int(note["seq_len"]), Packing(**note["packing"]), int(note["seed"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"`{path}` is damaged: {error}", "Pack the tokens again.") from error
