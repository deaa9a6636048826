"""Tokens as Arrow files, as `datasets` saves and loads them: a row a document, `input_ids` and what goes with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import RecipeError
from ._foreign import Run, check_no_others, document_at
from ._segments import Weighting, fit_to_weigh
from .batch import IGNORED
from .store import TokenStore

_DOCUMENTS = 1000


def read_arrow(files: Sequence[Path]) -> tuple[Weighting, Iterator[Run]]:
    """The documents of the files: `input_ids`; `loss_weights` or `labels` (-100: not learnt), `row_id`, `source`,
    `weight` where there are any."""
    with pa.memory_map(str(files[0])) as source:
        names = _reader(files[0], source).schema.names
    if "input_ids" not in names:
        raise RecipeError(f"`{files[0]}` has no column `input_ids`", f"Its columns: {', '.join(names)}.")
    weighting: Weighting = "float" if "loss_weights" in names else "mask" if "labels" in names else "none"
    return weighting, _runs(files, weighting)


def _reader(path: Path, source: pa.NativeFile) -> Any:
    """Of a file with an index at its end, or of a stream, which `datasets` writes."""
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid as error:
        raise RecipeError(f"`{path}` is no Arrow file: {error}") from error


def _runs(files: Sequence[Path], weighting: Weighting) -> Iterator[Run]:
    for path in files:
        first = 0
        with pa.memory_map(str(path)) as source:
            reader = _reader(path, source)
            try:
                batches = (
                    (reader.get_batch(number) for number in range(reader.num_record_batches))
                    if isinstance(reader, pa.RecordBatchFileReader)
                    else reader
                )
                for batch in batches:
                    for start in range(0, len(batch), _DOCUMENTS):
                        part = batch.slice(start, _DOCUMENTS)
                        yield _run(part, f"`{path}`, document {first}", weighting)
                        first += len(part)
            except (pa.ArrowInvalid, OSError) as error:
                raise RecipeError(
                    f"`{path}` is damaged after document {first}: {error}", "Was it cut short?"
                ) from error


def _run(batch: pa.RecordBatch, where: str, weighting: Weighting) -> Run:
    ids, lengths = _lists(batch, "input_ids", where)
    if ids.dtype.kind not in "ui":
        raise RecipeError(f"{where}: `input_ids` holds {ids.dtype}, expected whole numbers")
    weights = None
    if weighting == "float":
        weights, sizes = _lists(batch, "loss_weights", where)
        weights = weights.astype(np.float32)
        if not bool(np.isfinite(weights).all() and (weights >= 0).all()):
            raise RecipeError(f"{where}: `loss_weights` are not all finite and 0 or more")
        _check_lengths(where, "loss_weights", sizes, lengths)
    elif weighting == "mask":
        labels, sizes = _lists(batch, "labels", where)
        _check_lengths(where, "labels", sizes, lengths)
        learnt = labels != IGNORED
        if bool((labels[learnt] != ids[learnt]).any()):
            raise RecipeError(
                f"{where}: `labels` are neither {IGNORED} nor the ids at the same place", "Are they shifted by one?"
            )
        weights = learnt.astype(np.float32)
    columns = {name: batch.column(name).to_pylist() for name in ("row_id", "source") if name in batch.schema.names}
    examples = None
    if "weight" in batch.schema.names:
        column = batch.column("weight")
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise RecipeError(f"{where}: `weight` holds {column.type}, expected numbers")
        examples = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        for number in np.flatnonzero(~fit_to_weigh(examples))[:1].tolist():
            raise RecipeError(
                f"{document_at(where, number)}: the `weight` is {column[number].as_py()}",
                "Weights are finite and not negative.",
            )
        examples = examples.astype(np.float32)
    return Run(where, ids, lengths, weights, columns.get("row_id"), columns.get("source"), examples)


def _lists(batch: pa.RecordBatch, name: str, where: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    if name not in batch.schema.names:
        raise RecipeError(f"{where}: there is no column `{name}`, other files have it")
    column = batch.column(name)
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise RecipeError(f"{where}: `{name}` holds {kind}, expected lists")
    values = pc.list_flatten(column)
    if column.null_count or values.null_count:
        raise RecipeError(f"{where}: `{name}` has empty values")
    sizes: npt.NDArray[np.int64] = pc.list_value_length(column).to_numpy().astype(np.int64)
    return values.to_numpy(zero_copy_only=False), sizes


def _check_lengths(where: str, name: str, found: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> None:
    for number in np.flatnonzero(found != wanted)[:1].tolist():
        raise RecipeError(
            f"{document_at(where, number)}: {int(found[number])} `{name}` for {int(wanted[number])} ids",
            "Give one for each id.",
        )


def write_arrow(store: TokenStore, folder: Path, *, without_weights: bool) -> list[Path]:
    """A folder that `datasets.load_from_disk` opens: a file for each segment, and the two that describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(store.segments)
    found = [folder / f"data-{number:05d}-of-{count:05d}.arrow" for number in range(count)]
    check_no_others(folder, "*.arrow", found)
    weighting: Weighting = "none" if without_weights else store.layout.weighting
    schema = _schema(weighting, without_weights)
    for number, path in enumerate(found):
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
            first, stop = store.document_bounds[number : number + 2].tolist()
            for begin in range(first, stop, _DOCUMENTS):
                writer.write_batch(_batch(store, number, begin, min(begin + _DOCUMENTS, stop), schema))
        os.replace(part, path)
    state: dict[str, Any] = {
        "_data_files": [{"filename": path.name} for path in found],
        "_fingerprint": store.fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    for name, content in (("dataset_info.json", {}), ("state.json", state)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        found.append(folder / name)
    return found


def _schema(weighting: Weighting, without_weights: bool) -> pa.Schema:
    fields = [("input_ids", pa.list_(pa.int32()))]
    if weighting == "mask":
        fields.append(("labels", pa.list_(pa.int64())))
    if weighting == "float":
        fields.append(("loss_weights", pa.list_(pa.float32())))
    fields += [("row_id", pa.string()), ("source", pa.string())]
    return pa.schema(fields if without_weights else [*fields, ("weight", pa.float32())])


def _batch(store: TokenStore, segment: int, first: int, stop: int, schema: pa.Schema) -> pa.RecordBatch:
    """The documents `first` … `stop` - 1, which lie in one segment."""
    starts, lengths = store.starts[first:stop], store.lengths[first:stop]
    begin, end = int(starts[0]), int(starts[-1]) + int(lengths[-1])
    ids = store.tokens[segment][begin:end].astype(np.int64)
    offsets = pa.array(np.append(starts, end) - begin, pa.int32())
    docs = store.docs[segment].slice(first - int(store.document_bounds[segment]), stop - first)
    found: dict[str, Any] = {"row_id": docs.column("row_id"), "source": docs.column("source").cast(pa.string())}
    aligned: dict[str, npt.NDArray[Any]] = {"input_ids": ids}
    if store.weights is not None:
        weights = store.weights[segment][begin:end]
        aligned |= {"labels": np.where(weights != 0, ids, IGNORED), "loss_weights": weights}
    if "weight" in schema.names:
        examples = store.example_weights
        found["weight"] = np.ones(stop - first) if examples is None else examples[first:stop]
    columns = []
    for field in schema:
        if field.name in aligned:
            values = pa.array(aligned[field.name]).cast(field.type.value_type)
            columns.append(pa.ListArray.from_arrays(offsets, values))
        else:
            column = found[field.name]
            columns.append(column if isinstance(column, pa.Array) else pa.array(column, field.type))
    return pa.record_batch(columns, schema=schema)
