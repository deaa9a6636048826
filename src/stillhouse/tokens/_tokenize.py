"""The work behind `tokenize`: rows to segments in the scratch folder, then a manifest over them.

A segment is made from a run of input rows and renamed when it is whole, so an interrupted step begins again at the
first row of the segment that it was in.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import PreTrainedTokenizerBase

from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.keys import digest
from ..core.outcome import Row
from ..core.step import Step
from ..text.chat import ChatRenderer, check_tokenizer
from ..text.tokenizer import load_tokenizer, starts_with_bos, tokenizer_digest
from ._segments import Layout, Segment, SegmentWriter, write_manifest, written_segments

if TYPE_CHECKING:
    from .tokenize import Tokenize

_BATCH = 256
"""Rows that are tokenised together."""
_SEGMENT_TOKENS = 1 << 26
"""A segment ends with the batch that reaches this: 128 MB of narrow ids."""
_MAX_REJECTED = 0.5
"""A share of rejected rows that says that the columns or the template are wrong, not the rows."""


@dataclass(frozen=True)
class Encoded:
    """A row as a document: ids, loss weights (None: all count), role spans."""

    ids: Sequence[int]
    weights: Sequence[float] | None = None
    roles: Sequence[tuple[str, int, int]] = ()


Encoder = Callable[[Sequence[Row]], Sequence[Encoded | RowFault]]


def tokenize(step: Tokenize, context: Context) -> None:
    """Run the step `Tokenize`."""
    rows = context.get(step.rows)
    folder = context.get(cast("Step[Files]", step.tokenizer)).path
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer)
    _check_columns(step, rows)
    layout = layout_of(tokenizer, step.template, chat=step.text is None)
    encoder = text_encoder(tokenizer, step.text) if step.text is not None else chat_encoder(tokenizer, step.template)
    writing = Writing(layout, encoder, step.max_length, step.weight, step.source)
    progress = _Progress(context, len(rows))
    segments = write_segments(rows, context.scratch / "segments", writing, _SEGMENT_TOKENS, progress)
    publish(context.scratch / "segments", context.folder, layout, segments)
    if (
        step.template is not None
    ):  # it travels with the tokens, so that a model trained on them is asked in the same way
        tokenizer.chat_template = step.template
    tokenizer.save_pretrained(context.folder / "tokenizer")
    _check_rejected(segments, context.folder / "rejects.jsonl")
    context.note(
        documents=sum(segment.num_documents for segment in segments),
        tokens=sum(segment.num_tokens for segment in segments),
        learnt=sum(segment.num_learnt for segment in segments),
        rejected=sum(segment.num_rejected for segment in segments),
    )


@dataclass(frozen=True)
class Writing:
    """How rows become documents."""

    layout: Layout
    encoder: Encoder
    max_length: int | None = None
    weight: str | None = None
    source: str = ""


class _Progress:
    def __init__(self, context: Context, total: int) -> None:
        self._context, self._total = context, total

    def __call__(self, done: int) -> None:
        self._context.progress(done, self._total)
        self._context.check_stop()


def write_segments(
    rows: Iterable[Row],
    folder: Path,
    writing: Writing,
    segment_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Segment]:
    """All segments of the rows; those that are in `folder` already are kept, and their rows skipped."""
    segments = written_segments(folder)
    done = segments[-1].rows[1] if segments else 0
    batches = _batches(rows, skip=done)
    for first in batches:
        writer = SegmentWriter(folder, len(segments), writing.layout)
        begin = done
        for batch in chain([first], batches):
            _write_batch(batch, writer, writing)
            done += len(batch)
            progress(done)
            if writer.num_tokens >= segment_tokens:
                break
        segments.append(writer.close((begin, done)))
    return segments


def _write_batch(rows: Sequence[Row], writer: SegmentWriter, writing: Writing) -> None:
    for row, encoded in zip(rows, writing.encoder(rows), strict=True):
        try:
            if isinstance(encoded, RowFault):
                raise encoded
            if writing.max_length is not None and len(encoded.ids) > writing.max_length:
                raise RowFault("too_long", f"{len(encoded.ids)} tokens, at most {writing.max_length} are allowed")
            weight = _weight_of(row, writing.weight)
        except RowFault as fault:
            content = {name: value for name, value in row.items() if name[:1] != "_"}
            writer.reject(row["_id"], fault.kind, fault.message, content)
            continue
        writer.add(row["_id"], encoded.ids, encoded.weights, source=writing.source, weight=weight, roles=encoded.roles)


def _weight_of(row: Row, column: str | None) -> float:
    if column is None:
        return 1.0
    value = row.get(column)
    if not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
        raise RowFault("invalid", f"`{column}` is {value!r}, expected a weight of 0 or more")
    return float(value)


def publish(segments: Path, target: Path, layout: Layout, found: Sequence[Segment]) -> None:
    """Put finished segments under `target` (as links, where the disk has them) and name them in a manifest."""
    target.mkdir(parents=True, exist_ok=True)
    with (target / "rejects.jsonl").open("wb") as rejects:
        for segment in found:
            (target / "segments" / segment.name).mkdir(parents=True)
            for name in segment.files:
                _link(segments / segment.name / name, target / "segments" / segment.name / name)
            with (segments / segment.name / "rejects.jsonl").open("rb") as part:
                shutil.copyfileobj(part, rejects)
    write_manifest(target, layout, found)


def layout_of(tokenizer: PreTrainedTokenizerBase, template: str | None, *, chat: bool) -> Layout:
    """The layout of token files made with this tokenizer and template."""
    end: int = tokenizer.eos_token_id
    pad: int | None = tokenizer.pad_token_id
    text = (template or tokenizer.get_chat_template()) if chat else ""
    return Layout(
        vocab_size=len(tokenizer),
        pad_id=end if pad is None else pad,  # never read: padding is known by where it stands
        end_ids=tuple(sorted({end, _end_of_turn(tokenizer, template) if chat else end})),
        weighting="mask" if chat else "none",
        tokenizer=tokenizer_digest(tokenizer),
        template=digest(text.encode()) if chat else "",
    )


def _end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str | None) -> int:
    """The token that the template writes after a reply; not every tokenizer calls it its end token."""
    renderer = ChatRenderer(tokenizer, template)
    return renderer.render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).end_id


def chat_encoder(tokenizer: PreTrainedTokenizerBase, template: str | None) -> Encoder:
    """Conversations, with assistant-only weights."""
    renderer = ChatRenderer(tokenizer, template)

    def encode(rows: Sequence[Row]) -> list[Encoded | RowFault]:
        conversations = [row["messages"] if isinstance(row["messages"], list) else [] for row in rows]
        return [
            rendered
            if isinstance(rendered, RowFault)
            else Encoded(
                rendered.ids, rendered.weights, [(span.role, span.start, span.stop) for span in rendered.roles]
            )
            for rendered in renderer.render_many(conversations)
        ]

    return encode


def text_encoder(tokenizer: PreTrainedTokenizerBase, columns: Sequence[str]) -> Encoder:
    """Texts, each with the end token after it, and the begin token before it where the tokenizer itself puts one."""
    before = [tokenizer.bos_token_id] if starts_with_bos(tokenizer) else []
    backend = tokenizer.backend_tokenizer
    end = tokenizer.eos_token_id

    def encode(rows: Sequence[Row]) -> list[Encoded | RowFault]:
        texts = [_text_of(row, columns) for row in rows]
        encodings = iter(
            backend.encode_batch_fast([text for text in texts if isinstance(text, str)], add_special_tokens=False)
        )
        return [text if isinstance(text, RowFault) else Encoded([*before, *next(encodings).ids, end]) for text in texts]

    return encode


def _text_of(row: Row, columns: Sequence[str]) -> str | RowFault:
    parts = [row[column] for column in columns if row[column] is not None]
    for column in columns:
        if row[column] is not None and not isinstance(row[column], str):
            return RowFault("invalid", f"`{column}` holds {type(row[column]).__name__}, expected text")
    text = "\n\n".join(parts)
    return text if text.strip() else RowFault("empty", f"no text in {', '.join(f'`{column}`' for column in columns)}")


def _batches(rows: Iterable[Row], skip: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for number, row in enumerate(rows):
        if number < skip:
            continue
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_columns(step: Tokenize, rows: Rows) -> None:
    wanted = [*(step.text or ("messages",)), *([step.weight] if step.weight else [])]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        remedy = "" if step.text else " Make `messages` with `ToMessages`, or name columns of text with `text`."
        raise RecipeError(
            f"Tokenize: the rows have no column `{missing[0]}`", f"Their columns: {', '.join(rows.columns)}.{remedy}"
        )


def _check_rejected(segments: Sequence[Segment], rejects: Path) -> None:
    rejected = sum(segment.num_rejected for segment in segments)
    seen = sum(segment.rows[1] - segment.rows[0] for segment in segments)
    kept = sum(segment.num_documents for segment in segments)
    if not seen:
        raise RecipeError("Tokenize: there are no rows", "The step before made none; see its record.")
    if not kept or rejected > _MAX_REJECTED * seen:
        with rejects.open(encoding="utf-8") as file:
            first = file.readline().strip()
        raise RecipeError(f"Tokenize: {rejected} of {seen} rows cannot be used", f"The first: {first[:400]}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def rejects_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows that a store rejected: `_id`, `kind`, `message`, `row`."""
    with (folder / "rejects.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
