"""Segments that were made before from the same rows in the same way, so that they need not be made again.

A segment names its first input row and has a digest of the ids of all of them; a row's id stands for its content. So a
table that grew, or of which one row was changed, is compared by its ids alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa

from ..core.artifact import Artifact
from ..core.errors import StoreError
from ..core.keys import DIGEST_BYTES
from ._segments import Layout, Segment, content_digest, contents_of, link_file, read_manifest


class RowIds:
    """The digest of row ids, taken up one after the other."""

    def __init__(self) -> None:
        self.count = 0
        self._state = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def update(self, row_ids: Sequence[str]) -> None:
        self.count += len(row_ids)
        self._state.update("".join(row_ids).encode())  # all ids have the same length

    @property
    def digest(self) -> str:
        return self._state.hexdigest()


@dataclass(frozen=True)
class Known:
    """A segment of an earlier artifact in `folder` that holds rows `start` to `stop` of the table."""

    start: int
    stop: int
    segment: Segment
    folder: Path
    first_reject: int
    """Lines of the artifact's `rejects.jsonl` before those of the segment."""


def known_segments(earlier: Iterable[Artifact], writing: str, ids: Iterable[pa.Array]) -> list[Known]:
    """Segments of `earlier`, made as the digest `writing` says, that hold runs of the rows with these `ids`; in order.

    One pass over the ids, in constant memory. Where two would overlap, the one that ends first is taken.
    """
    candidates: dict[str, list[Known]] = {}
    for artifact in earlier:
        if artifact.record.get("facts", {}).get("writing") == writing:
            for known in _segments_in(artifact.data):
                candidates.setdefault(known.segment.first_row, []).append(known)
    if not candidates:
        return []
    found: list[Known] = []
    open_: list[tuple[Known, RowIds]] = []
    number = 0
    for array in ids:
        for row_id in array.to_pylist():
            open_ += [
                (replace(known, start=number, stop=number + known.stop), RowIds())
                for known in candidates.get(row_id, ())
            ]
            number += 1
            for known, seen in open_:
                seen.update((row_id,))
                if number == known.stop and seen.digest == known.segment.row_ids:
                    found.append(known)
                    break
            open_ = [pair for pair in open_ if pair[0].stop > number and not (found and pair[0].start < found[-1].stop)]
    return found


def _segments_in(folder: Path) -> Iterator[Known]:
    """The segments of a store; `stop` counts their rows."""
    try:
        segments = read_manifest(folder).segments
    except (StoreError, OSError):
        return
    rejects = 0
    for segment in segments:
        if segment.row_ids:
            yield Known(0, segment.rows[1] - segment.rows[0], segment, folder, rejects)
        rejects += segment.num_rejected


def take_over(known: Known, segments: Path, number: int, layout: Layout) -> Segment | None:
    """Put the segment under `segments` as number `number`, as links where the disk has them.

    None where its files are gone by now or not as they were written.
    """
    name = f"{number:05d}"
    part = segments / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for file, digest in known.segment.files.items():
            link_file(known.folder / "segments" / known.segment.name / file, part / file)
            if content_digest(part / file) != digest:
                return None
        with (known.folder / "rejects.jsonl").open("rb") as source, (part / "rejects.jsonl").open("wb") as target:
            stop = known.first_reject + known.segment.num_rejected
            target.writelines(islice(source, known.first_reject, stop))
        if content_digest(part / "rejects.jsonl") != known.segment.rejects:
            return None
    except FileNotFoundError:
        return None
    contents = known.segment.contents or contents_of(part, layout)  # none: written under a former format
    segment = replace(known.segment, name=name, rows=(known.start, known.stop), contents=contents)
    with (part / "segment.json").open("w", encoding="utf-8") as record:
        json.dump(asdict(segment), record)
        record.flush()
        os.fsync(record.fileno())
    os.replace(part, segments / name)
    return segment
