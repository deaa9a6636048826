"""The work behind `tokenize`: rows to segments in the scratch folder, then a manifest over them.

A segment is made from a run of input rows and renamed when it is whole, so an interrupted step begins again at the
first row of the segment that it was in. Rows that a segment of an earlier result was made from, in the same way, are
not tokenised again: that segment is taken over, and a new one ends where such rows begin.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from ..core._tables import arrow_batches, dict_rows
from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.keys import digest, digest_of, folder_digest
from ..core.step import Step
from ..core.store import write_json
from ..rows.import_ import places_behind
from ..text.chat import PROBES, ChatRenderer, check_tokenizer
from ..text.encoder import Mismatch
from ..text.tokenizer import load_tokenizer, tokenizer_digest
from ._documents import Documenter, Documents, Writing, text_of
from ._known import Known, RowIds, known_segments, take_over
from ._processes import Chunk, Processes
from ._segments import Layout, Segment, SegmentWriter, content_digest, link_file, write_manifest, written_segments
from .store import TokenStore

if TYPE_CHECKING:
    from .tokenize import Tokenize

_BATCH = 256
"""Rows that are tokenised together, at most."""
_BATCH_BYTES = 1 << 22
"""Bytes of rows that are tokenised together, where that is more than one row."""
_SEGMENT_TOKENS = 1 << 26
"""A segment ends with the batch that reaches this: 128 MB of narrow ids."""
_CHECKED = 8
"""Texts at the beginning of each segment whose ids are compared with the tokenizer's own."""
_MAX_REJECTED = 0.5
"""A share of rejected rows that says that the columns or the template are wrong, not the rows."""
_ALONE_SECONDS = 3.0
"""Work of less than some of these is done before other processes have begun."""
_SMALL_BYTES = 256_000
"""Tables smaller than this on the disk are tokenised before a faster way would have been checked."""


def tokenize(step: Tokenize, context: Context) -> None:
    """Run the step `Tokenize`."""
    rows = context.get(step.rows)
    if not len(rows):
        raise RecipeError(
            f"Tokenize: there are no rows{_read_from(step)}", "The step before made none; see its record."
        )
    folder = context.get(cast("Step[Files]", step.tokenizer)).path
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer)
    _check_columns(step, rows)
    layout = layout_of(tokenizer, step.template, chat=step.text is None)
    fast = step.text is not None and sum(path.stat().st_size for path in rows.paths) > _SMALL_BYTES
    fields = (step.text, step.template, step.max_length, step.weight, step.source)
    known = context.facts["writing"] = digest_of([step.tag, layout.digest, *fields, step.control_tokens])
    writing = Writing(folder, *fields, fast=fast, control_tokens=step.control_tokens)
    work = _Work(context, rows, layout, known)
    segments = work.segments(writing, tokenizer)
    publish(context.scratch / "segments", context.folder, layout, segments)
    # It travels with the tokens, so that a model trained on them is asked in the same way.
    if step.template is not None:
        tokenizer.chat_template = step.template
    tokenizer.save_pretrained(context.folder / "tokenizer")
    _check_rejected(step, segments, context.folder / "rejects.jsonl")
    store = TokenStore(context.folder)
    context.digest = content_of(store)
    kinds = Counter(reject["kind"] for reject in store.rejects())
    context.note(
        documents=store.num_documents,
        tokens=store.num_tokens,
        learnt=store.num_learnt,
        rejected=store.num_rejected,
        **({"rejected_for": dict(kinds)} if kinds else {}),
    )


class Differs(Exception):
    """The fast way gives other ids than the tokenizer."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.mismatch = mismatch


class _Work:
    """The segments of one step, the slow way should the fast one turn out to be wrong."""

    def __init__(self, context: Context, rows: Rows, layout: Layout, known: str) -> None:
        self._context, self._rows, self._layout, self._known = context, rows, layout, known
        self._folder = context.scratch / "segments"
        self._distrust = context.scratch / "fast-way-differs.json"

    def segments(self, writing: Writing, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        slow = replace(writing, fast=False)
        if self._distrust.exists():  # found by an attempt that was interrupted later
            self._note(json.loads(self._distrust.read_bytes()), warn=False)
            return self._segments(slow, Documenter(slow, tokenizer))
        documenter = Documenter(writing, tokenizer)
        mismatch = None if documenter.texts is None else documenter.texts.mismatch
        if mismatch is None:
            try:
                found = self._segments(writing, documenter)
                if documenter.texts is not None:
                    self._context.note(encoder="tiktoken" if documenter.texts.is_fast else "tokenizers")
                    if writing.fast and not documenter.texts.is_fast:
                        self._context.note(slow_because=documenter.texts.slow_because)
                return found
            except Differs as found_out:
                mismatch = found_out.mismatch
        shutil.rmtree(self._folder, ignore_errors=True)  # what the fast way made is not believed
        write_json(self._distrust, mismatch._asdict())
        self._note(mismatch._asdict(), warn=True)
        return self._segments(slow, Documenter(slow, tokenizer))

    def _segments(self, writing: Writing, documenter: Documenter) -> list[Segment]:
        trusted = not self._distrust.exists()
        known = (
            known_segments(self._context.finished(self._context.step.tag), self._known, self._ids()) if trusted else []
        )
        processes = self._context.options.threads or _cores()
        fast = documenter.texts is not None and documenter.texts.is_fast
        writing = replace(writing, fast=fast)
        progress = _Progress(self._context, len(self._rows))
        while True:
            try:
                return write_segments(
                    self._batches(), self._folder, self._layout, writing, _SEGMENT_TOKENS, progress,
                    documenter=documenter, known=known, processes=processes, total=len(self._rows),
                )  # fmt: skip
            except _Lost as lost:
                known = [entry for entry in known if entry != lost.known]

    def _batches(self) -> Iterator[pa.RecordBatch]:
        columns = [name for name in self._rows.schema.names if name not in ("_parents", "_calls")]
        return arrow_batches(self._rows.paths, 4096, columns)

    def _ids(self) -> Iterator[pa.Array]:
        return (batch.column(0) for batch in arrow_batches(self._rows.paths, 65_536, ["_id"]))

    def _note(self, mismatch: Mapping[str, Any], *, warn: bool) -> None:
        self._context.note(encoder="tokenizers", fast_way_differs=mismatch)
        if warn:
            self._context.warn(
                f"tiktoken gives other ids than the tokenizer for {mismatch['text'][:60]!r}: the tokenizer itself does "
                "the work, which takes longer and changes nothing else"
            )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Progress:
    def __init__(self, context: Context, total: int) -> None:
        self._context, self._total = context, total
        self._began, self._first = time.monotonic(), -1

    def __call__(self, done: int, tokens: int = 0) -> None:
        if self._first < 0:
            self._first = tokens
        gone = time.monotonic() - self._began
        pace: dict[str, Any] = (
            {"tokens": tokens, "tokens/s": round((tokens - self._first) / gone)} if gone > 1 else {"tokens": tokens}
        )
        self._context.progress(done, self._total, "rows", **pace)
        self._context.check_stop()


def write_segments(
    batches: Iterable[pa.RecordBatch],
    folder: Path,
    layout: Layout,
    writing: Writing,
    segment_tokens: int,
    progress: Callable[[int, int], None] = lambda done, tokens: None,
    *,
    documenter: Documenter | None = None,
    known: Sequence[Known] = (),
    processes: int = 1,
    total: int = 0,
) -> list[Segment]:
    """All segments of the rows; those that are in `folder` already are kept, and their rows skipped.

    What is written does not depend on `processes`. Raises `Differs` where the fast way is wrong for a text at the
    beginning of a segment.
    """
    segments = written_segments(folder)
    done = segments[-1].rows[1] if segments else 0
    known = [entry for entry in known if entry.start >= done]
    documenter = documenter or Documenter(writing)
    writer: _Open | None = None
    ahead = cut(batches, done, known)
    for entry in _documented(ahead, documenter, writing, processes, total):
        if isinstance(entry, Known):
            if writer is not None:
                segments.append(writer.close(done))
                writer = None
            taken = take_over(entry, folder, len(segments), layout)
            if taken is None:
                raise _Lost(entry)
            segments.append(taken)
            done = entry.stop
        else:
            chunk, documents = entry
            if writer is None:
                _check_first(chunk, documenter, writing)
                writer = _Open(SegmentWriter(folder, len(segments), layout), done, writing.source)
            writer.add(chunk, documents)
            done += chunk.rows.num_rows
            if writer.writer.num_tokens >= segment_tokens:
                segments.append(writer.close(done))
                writer = None
        progress(done, sum(s.num_tokens for s in segments) + (writer.writer.num_tokens if writer else 0))
    if writer is not None:
        segments.append(writer.close(done))
    return segments


class _Lost(Exception):
    """A segment that was to be taken over is gone or damaged."""

    def __init__(self, known: Known) -> None:
        super().__init__(str(known.folder))
        self.known = known


class _Open:
    """The segment that is being written, and the ids of the rows that went into it."""

    def __init__(self, writer: SegmentWriter, begin: int, source: str) -> None:
        self.writer, self._begin, self._source = writer, begin, source
        self._first_row, self._ids = "", RowIds()

    def add(self, chunk: Chunk, documents: Documents) -> None:
        row_ids = chunk.rows.column(chunk.rows.schema.names.index("_id")).to_pylist()
        self._first_row = self._first_row or row_ids[0]
        self._ids.update(row_ids)
        self.writer.add_many(
            documents.row_ids,
            documents.ids,
            documents.lengths,
            documents.weights,
            sources=self._source,
            example_weights=documents.example_weights,
            roles=documents.roles,
        )
        for reject in documents.rejects:
            self.writer.reject(reject.row_id, reject.kind, reject.message, reject.row)

    def close(self, done: int) -> Segment:
        return self.writer.close((self._begin, done), first_row=self._first_row, row_ids=self._ids.digest)


def cut(batches: Iterable[pa.RecordBatch], done: int, known: Sequence[Known]) -> Iterator[Chunk | Known]:
    """The rows from number `done` on, in chunks; in place of rows that a known segment holds, that segment."""
    coming = list(reversed(known))
    number = 0
    for batch in batches:
        stop = number + batch.num_rows
        while (place := max(done, number)) < stop:
            if coming and coming[-1].start == place:
                done = coming[-1].stop
                yield coming.pop()
                continue
            done = min(stop, place + _BATCH, coming[-1].start if coming else stop)
            rows = batch.slice(place - number, done - place)
            while rows.num_rows > 1 and rows.nbytes > _BATCH_BYTES:
                rows = rows.slice(0, rows.num_rows // 2)
            done = place + rows.num_rows
            yield Chunk(place, rows)
        number = stop


def _documented(
    chunks: Iterator[Chunk | Known], documenter: Documenter, writing: Writing, processes: int, total: int
) -> Iterator[tuple[Chunk, Documents] | Known]:
    """Each chunk with its documents: made here to begin with, and by all processes where that takes long."""
    began, first = time.monotonic(), -1
    for chunk in chunks:
        if isinstance(chunk, Known):
            yield chunk
            continue
        first = chunk.start if first < 0 else first
        gone, made = time.monotonic() - began, chunk.start - first
        if processes > 1 and made and gone >= _ALONE_SECONDS and gone * (total - chunk.start) / made > 3 * gone:
            with Processes(processes, writing) as pool:
                yield from pool.map(_chained(chunk, chunks))
            return
        yield chunk, documenter(dict_rows(chunk.rows))


def _chained(first: Chunk, rest: Iterator[Chunk | Known]) -> Iterator[Chunk | Known]:
    yield first
    yield from rest


def _check_first(chunk: Chunk, documenter: Documenter, writing: Writing) -> None:
    if documenter.texts is None or writing.text is None or not documenter.texts.is_fast:
        return
    rows = dict_rows(chunk.rows.slice(0, _CHECKED))
    texts = [text for row in rows if isinstance(text := text_of(row, writing.text), str)]
    mismatch = documenter.texts.check(texts)
    if mismatch is not None:
        raise Differs(mismatch)


def publish(segments: Path, target: Path, layout: Layout, found: Sequence[Segment]) -> None:
    """Put finished segments under `target` (as links, where the disk has them) and name them in a manifest."""
    target.mkdir(parents=True, exist_ok=True)
    with (target / "rejects.jsonl").open("wb") as rejects:
        for segment in found:
            (target / "segments" / segment.name).mkdir(parents=True)
            for name in segment.files:
                link_file(segments / segment.name / name, target / "segments" / segment.name / name)
            with (segments / segment.name / "rejects.jsonl").open("rb") as part:
                shutil.copyfileobj(part, rejects)
    write_manifest(target, layout, found)


def content_of(store: TokenStore) -> str:
    """Digest of what a store holds, however it is cut into segments: a store that grew equals one made at once."""
    parts = [
        store.fingerprint,
        folder_digest(store.folder / "tokenizer"),
        content_digest(store.folder / "rejects.jsonl"),
    ]
    return digest_of(parts)


def layout_of(tokenizer: PreTrainedTokenizerBase, template: str | None, *, chat: bool) -> Layout:
    """The layout of token files made with this tokenizer and template."""
    end: int = tokenizer.eos_token_id
    ends = {end, _end_of_turn(tokenizer, template) if chat else end}  # refuses a tokenizer that has no template
    pad: int | None = tokenizer.pad_token_id
    text = (template or tokenizer.get_chat_template()) if chat else ""
    return Layout(
        vocab_size=max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0)),  # some leave numbers out
        pad_id=end if pad is None else pad,  # never read: padding is known by where it stands
        end_ids=tuple(sorted(ends)),
        weighting="mask" if chat else "none",
        tokenizer=tokenizer_digest(tokenizer),
        template=digest(text.encode()) if chat else "",
    )


def _end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str | None) -> int:
    """The token that the template writes after a reply; not every tokenizer calls it its end token."""
    renderer = ChatRenderer(tokenizer, template)
    for probe in PROBES:
        try:
            return renderer.render(probe).end_id
        except RowFault:
            continue
    return int(tokenizer.eos_token_id)  # it wants another conversation, or none at all: the rows will tell


def _check_columns(step: Tokenize, rows: Rows) -> None:
    wanted = [*(step.text or ("messages",)), *([step.weight] if step.weight else [])]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        remedy = "" if step.text else " Make `messages` with `ToMessages`, or name columns of text with `text`."
        raise RecipeError(
            f"Tokenize: the rows{_read_from(step)} have no column `{missing[0]}`",
            f"Their columns: {', '.join(rows.columns)}.{remedy}",
        )


def _read_from(step: Tokenize) -> str:
    places = places_behind(step.rows)
    return f" of {', '.join(f'`{place}`' for place in places)}" if places else ""


def _check_rejected(step: Tokenize, segments: Sequence[Segment], rejects: Path) -> None:
    rejected = sum(segment.num_rejected for segment in segments)
    seen = sum(segment.rows[1] - segment.rows[0] for segment in segments)
    kept = sum(segment.num_documents for segment in segments)
    if not kept or rejected > _MAX_REJECTED * seen:
        with rejects.open("rb") as file:
            first = json.loads(file.readline())
            kinds = Counter([first["kind"], *(json.loads(line)["kind"] for line in file)])
        told = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
        content = json.dumps(first["row"], ensure_ascii=False)
        content = content if len(content) <= 300 else f"{content[:300]}…"
        raise RecipeError(
            f"Tokenize: {rejected:,} of {seen:,} rows{_read_from(step)} cannot be used: {told}",
            f"The first, row {first['_id']}: {first['message']}. It holds {content}",
        )
