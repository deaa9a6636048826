"""The work behind `foreign`: runs of documents from any format into segments, and out of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from ._segments import Layout, Segment, SegmentWriter, Weighting, begin_store, write_manifest
from .foreign import Format
from .store import TokenStore

if TYPE_CHECKING:
    from ..core.artifact import Files
    from .foreign import ImportTokens

_SEGMENT_TOKENS = 1 << 26
_SUFFIXES = {"olmo": ".npy", "arrow": ".arrow"}
_STATE = "state.json"


class Run(NamedTuple):
    """Documents that follow one another."""

    where: str
    """File, and number of the first document in it."""
    ids: npt.NDArray[np.integer]
    """[tokens] of all of them."""
    lengths: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32] | None = None
    row_ids: Sequence[str] | None = None
    sources: Sequence[str] | None = None
    examples: npt.NDArray[np.float32] | None = None


def check_format(format: str) -> None:
    """Raise `RecipeError` for a format that is not known: it must not be taken for another."""
    if format not in get_args(Format):
        known = ", ".join(f"`{name}`" for name in get_args(Format))
        raise RecipeError(f"`{format}` is no format of tokens", f"Known are {known}.")


def input_files(path: Path, format: Format) -> list[Path]:
    """The files that `path` stands for; raises `RecipeError` where there are none."""
    check_format(format)
    if format == "megatron":
        prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
        found = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".bin", ".idx")]
        missing = [str(file) for file in found if not file.is_file()]
        if missing:
            raise RecipeError(f"there is no file `{missing[0]}`", "Megatron's tokens are a `.bin` and an `.idx`.")
        return found
    suffix = _SUFFIXES[format]
    if path.is_file():
        found = [path]
    elif format == "arrow" and (path / _STATE).is_file():
        found = _named_in(path / _STATE)
    else:
        found = [file for file in sorted(path.glob(f"*{suffix}")) if not file.name.startswith("labels_mask")]
    if not found:
        raise RecipeError(f"there are no `{suffix}` files in `{path}`", "Give a file, or the folder that holds them.")
    if format == "olmo":
        beside = [other for file in found for other in (index_of(file), mask_of(file)) if other and other.is_file()]
        found += beside
    return found


def _named_in(state: Path) -> list[Path]:
    """The files of a folder that `datasets` saved: others may lie there, of an earlier save or of its cache."""
    try:
        found = [state.parent / entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"`{state}` is damaged: it names no files", "Save the data set again.") from error
    for file in found:
        if not file.is_file():
            raise RecipeError(f"there is no file `{file}`, which `{_STATE}` names", "Copy the folder again.")
    return found


def check_no_others(folder: Path, pattern: str, written: Sequence[Path]) -> None:
    """Raise `RecipeError` where files of another export would stay beside those that are to be written."""
    names = {path.name for path in written}
    others = sorted(path.name for path in folder.glob(pattern) if path.name not in names)
    if others:
        raise RecipeError(
            f"`{folder}` holds `{others[0]}`, which is no part of this export and would be read with it"
            + (f", and {len(others) - 1} more" if len(others) > 1 else ""),
            "Give a new folder, or remove what is in this one.",
        )


def index_of(tokens: Path) -> Path:
    """Where the index of documents of an OLMo file lies."""
    return tokens.with_name(f"{tokens.name.removesuffix('.npy')}.csv.gz")


def mask_of(tokens: Path) -> Path | None:
    """Where the label mask of an OLMo file lies, by the names that open-instruct gives them."""
    rest = tokens.name.removeprefix("token_ids")
    return tokens.with_name(f"labels_mask{rest}") if rest != tokens.name else None


def import_step(step: ImportTokens, context: Context) -> None:
    """Run the step `ImportTokens`."""
    from ..text.tokenizer import load_tokenizer
    from ._tokenize import layout_of

    folder = context.get(cast("Step[Files]", step.tokenizer)).path
    tokenizer = load_tokenizer(folder)
    layout = layout_of(tokenizer, None, chat=False)
    store = import_files([file.path for file in step.files], step.format, layout, context.folder, context)
    tokenizer.save_pretrained(context.folder / "tokenizer")
    context.note(documents=store.num_documents, tokens=store.num_tokens, rejected=store.num_rejected)


def import_files(
    files: Sequence[Path], format: Format, layout: Layout, target: Path, context: Context | None = None
) -> TokenStore:
    """Write the documents of the files as a store into `target`, a segment in memory at no time.

    Raises `RecipeError` where `target` holds anything but what an import left that was interrupted.
    """
    begin_store(target)
    weighting, runs = _runs(files, format, layout)
    layout = replace(layout, weighting=weighting)
    segments: list[Segment] = []
    begin = done = 0
    writer: SegmentWriter | None = None
    for run in runs:
        writer = writer or SegmentWriter(target / "segments", len(segments), layout)
        _add(writer, run, layout)
        done += len(run.lengths)
        if context is not None:
            context.progress(done)
            context.check_stop()
        if writer.num_tokens >= _SEGMENT_TOKENS:
            segments.append(writer.close((begin, done)))
            begin, writer = done, None
    if writer is not None:
        segments.append(writer.close((begin, done)))
    if not sum(segment.num_documents for segment in segments):
        raise RecipeError(f"`{files[0]}` holds no documents")
    with (target / "rejects.jsonl").open("wb") as rejects:
        for segment in segments:
            rejects.write((target / "segments" / segment.name / "rejects.jsonl").read_bytes())
    write_manifest(target, layout, segments)
    return TokenStore(target)


def _runs(files: Sequence[Path], format: Format, layout: Layout) -> tuple[Weighting, Iterator[Run]]:
    if format == "megatron":
        from ._megatron import read_megatron

        return "none", read_megatron(*files[:2])
    if format == "olmo":
        from ._olmo import read_olmo

        return read_olmo(files, layout)
    from ._arrow_tokens import read_arrow

    return read_arrow(files)


def document_at(where: str, number: int) -> str:
    """The place of a document `number` after the one at `where`."""
    file, first = where.rsplit(" ", 1)
    return f"{file} {int(first) + number}"


def _add(writer: SegmentWriter, run: Run, layout: Layout) -> None:
    """Append a run, empty documents to the rejects; raises `RecipeError` for an id outside the vocabulary."""
    ends = np.cumsum(run.lengths)
    wrong = np.flatnonzero((run.ids < 0) | (run.ids >= layout.vocab_size))[:1]
    if len(wrong):
        document = int(np.searchsorted(ends, wrong[0], side="right"))
        raise RecipeError(
            f"{document_at(run.where, document)}: the id {int(run.ids[wrong[0]])} is outside the vocabulary of "
            f"{layout.vocab_size}",
            "Name the tokenizer that made the ids.",
        )
    for document in np.flatnonzero(run.lengths == 0).tolist():
        writer.reject("", "empty", "the document has no tokens", {"document": document_at(run.where, document)})
    kept = np.flatnonzero(run.lengths > 0)
    if not len(kept):
        return
    row_ids = run.row_ids if run.row_ids is not None else _content_ids(run.ids, ends, run.lengths)
    writer.add_many(
        [row_ids[number] for number in kept.tolist()],
        run.ids,
        run.lengths[kept],
        run.weights,
        sources="" if run.sources is None else [run.sources[number] for number in kept.tolist()],
        example_weights=None if run.examples is None else run.examples[kept],
    )


def _content_ids(ids: npt.NDArray[Any], ends: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[str]:
    """Row ids of 24 digits, from the ids as little-endian 32-bit integers."""
    content = memoryview(ids.astype("<u4").tobytes())
    bounds = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    return [blake2b(content[4 * first : 4 * end], digest_size=12).hexdigest() for first, end in bounds]


def export_files(store: TokenStore, path: Path, format: Format, *, without_weights: bool) -> list[Path]:
    """Write the store in another format."""
    check_format(format)
    try:
        return _export(store, path, format, without_weights=without_weights)
    except OSError as error:
        raise RecipeError(
            f"`{path}` cannot be written: {error}", "Give a folder that can be, with enough room."
        ) from error


def _export(store: TokenStore, path: Path, format: Format, *, without_weights: bool) -> list[Path]:
    if format == "arrow":
        from ._arrow_tokens import write_arrow

        return write_arrow(store, path, without_weights=without_weights)
    held = () if format == "megatron" else ("mask",)
    lost = [] if store.layout.weighting in ("none", *held) else ["loss weights of tokens"]
    lost += [] if store.example_weights is None else ["weights of examples"]
    if lost and not without_weights:
        raise RecipeError(
            f"the format `{format}` cannot hold {' and '.join(lost)}", "Export as `arrow`, or give `without_weights`."
        )
    if format == "megatron":
        from ._megatron import write_megatron

        return write_megatron(store, path)
    from ._olmo import write_olmo

    return write_olmo(store, path, masked=store.layout.weighting == "mask" and not without_weights)
