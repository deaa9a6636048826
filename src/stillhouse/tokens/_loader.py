"""The work behind `loader`: steps, the log of changes, state, and questions about rows."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._epochs import SourceRows
from ._gather import Layout, Rows
from ._mixing import Schedule, integer_weights
from ._packing import PackingReport
from ._permutation import key_of, marks
from .batch import Batch
from .mixing import checked_weights
from .packing import Packing
from .store import TokenStore

Int64s = npt.NDArray[np.int64]

_BLOCK_ROWS = 4096
"""Rows that are planned together: enough to make planning a small part of a batch's cost."""
_STATE = "stillhouse-loader/1"


@dataclass(frozen=True)
class Settings:
    """What rows are made of; loaders with equal settings and sources hand out equal batches."""

    seq_len: int
    packing: Packing
    seed: int
    shuffle: bool = True


@dataclass(frozen=True)
class Change:
    """An entry of the log: from `row` on, these weights and this batch size hold (None: as before)."""

    row: int
    weights: tuple[int, ...] | None = None
    batch_size: int | None = None
    reason: str = ""


class SeenRow(NamedTuple):
    """A piece of a document in a step."""

    source: str
    row_id: str
    document: int
    offset: int
    length: int


@dataclass(frozen=True)
class Account:
    """What a source has given so far."""

    rows: int
    tokens: int
    epochs: float


class _Era(NamedTuple):
    """Steps of one batch size: step `first_step` begins at row `first_row`."""

    first_row: int
    first_step: int
    batch_size: int


class _Block(NamedTuple):
    first_step: int
    stop_step: int
    layout: Layout


class Loader:
    """Batches without end, each a function of the sources, the settings, the log of changes and the step's number.

    Iterating goes on from `step`; `batch(step)` gives any. Made by `get_loader`.
    """

    def __init__(
        self,
        stores: Mapping[str, TokenStore],
        settings: Settings,
        batch_size: int,
        weights: Mapping[str, float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise RecipeError(f"rank {rank} of {world_size}", "Ranks count from 0 to `world_size` - 1.")
        self.settings = settings
        self.rank, self.world_size = rank, world_size
        self._check_batch_size(batch_size)
        self.sources = [
            SourceRows(name, store, settings.packing, settings.seq_len, settings.seed, shuffle=settings.shuffle)
            for name, store in stores.items()
        ]
        _check_compatible(self.sources)
        sizes = [float(source.rows_per_epoch) for source in self.sources]
        shares = sizes if weights is None else [weights[source.name] for source in self.sources]
        self._natural = weights is None
        self._restart([Change(0, integer_weights(shares), batch_size)], step=0)

    # Reading

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self._step

    @property
    def batch_size(self) -> int:
        """Rows of a step, all ranks together."""
        return self._era(self._step).batch_size

    @property
    def weights(self) -> dict[str, float]:
        """The shares that hold for the next step."""
        current = next(change.weights for change in reversed(self._log) if change.weights is not None)
        whole = sum(current)
        return {source.name: weight / whole for source, weight in zip(self.sources, current, strict=True)}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self.batch(self._step)
        self._step += 1
        return batch

    def batch(self, step: int) -> Batch:
        """This rank's rows of any step."""
        era = self._era(step)
        block = self._block_of(step, era)
        share = era.batch_size // self.world_size
        first = (step - block.first_step) * era.batch_size + self.rank * share
        row = self._first_row(step) + self.rank * share
        return block.layout.batch(first, first + share, step=step, first_row=row)

    def once(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Each document of each source once, in order: for evaluation. Rows of padding fill the last batch.

        All ranks get the same number of batches; `step` counts them from 0.
        """
        size = batch_size or self.batch_size
        self._check_batch_size(size)
        share = size // self.world_size
        counts = [source.rows_per_epoch for source in self.sources]
        bounds = np.cumsum([0, *counts])
        for step in range(-(-int(bounds[-1]) // size)):
            numbers = np.arange(step * size + self.rank * share, step * size + (self.rank + 1) * share)
            sources = np.searchsorted(bounds, numbers, side="right") - 1
            real = numbers < bounds[-1]
            rows = Rows(
                np.where(real, sources, -1), np.zeros_like(numbers), np.where(real, numbers - bounds[sources * real], 0)
            )
            yield self._layout(rows).batch(0, share, step=step, first_row=int(numbers[0]))

    @property
    def rows_per_epoch(self) -> int:
        """Rows of one pass over all sources."""
        return sum(source.rows_per_epoch for source in self.sources)

    def steps_in(self, epochs: float) -> int:
        """Steps that it takes to hand out `epochs` times the rows of all sources; the last may run into the next."""
        return max(1, -(-round(epochs * self.rows_per_epoch) // self.batch_size))

    # Changing

    def set_weights(self, weights: Mapping[str, float], *, reason: str = "") -> Change:
        """New shares, from the next step on. Steps handed out stay as they were; nothing is skipped or repeated."""
        names = {source.name: None for source in self.sources}
        values = checked_weights(weights, names)
        return self._change(Change(self._first_row(self._step), integer_weights([*values.values()]), None, reason))

    def set_batch_size(self, batch_size: int, *, reason: str = "") -> Change:
        """Another number of rows a step, from the next step on."""
        self._check_batch_size(batch_size)
        return self._change(Change(self._first_row(self._step), None, batch_size, reason))

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that another loader over the same sources needs to go on: a few integers, fingerprints and the log."""
        ends = {source.name: source.epoch_ends() for source in self.sources}
        return {
            "format": _STATE,
            "step": self._step,
            "settings": self._described(),
            "sources": {source.name: source.store.fingerprint for source in self.sources},
            "log": [_entry(change) for change in self._log],
            "epoch_ends": {name: found for name, found in ends.items() if found is not None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Ranks may differ; sources and settings may not (`RecipeError` says which)."""
        mine = {
            "format": _STATE,
            **self._described(),
            **{f"source {s.name}": s.store.fingerprint for s in self.sources},
        }
        other = {"format": state.get("format"), **state.get("settings", {})}
        other |= {f"source {name}": found for name, found in state.get("sources", {}).items()}
        differing = [key for key in {**other, **mine} if mine.get(key) != other.get(key)]
        if differing:
            lines = [f"{key}: {other.get(key, 'none')} then, {mine.get(key, 'none')} now" for key in differing]
            raise RecipeError(
                "the loader's state belongs to other data: " + "; ".join(lines),
                "Give the sources and settings of the run that is to go on, or begin a new one.",
            )
        for source in self.sources:
            source.recall_epoch_ends(state["epoch_ends"].get(source.name, []))
        self._restart([_change_of(entry) for entry in state["log"]], int(state["step"]))

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides what is handed out, the log included."""
        state = self.state_dict()
        del state["step"], state["epoch_ends"]
        return f"{key_of(json.dumps(state, sort_keys=True)):016x}"

    # Questions

    def rows_at_step(self, step: int) -> list[SeenRow]:
        """What all ranks see in a step, in order; computed, not logged."""
        era = self._era(step)
        block = self._block_of(step, era)
        first = (step - block.first_step) * era.batch_size
        batch = block.layout.batch(first, first + era.batch_size, step=step, first_row=self._first_row(step))
        lengths = np.diff(batch.cu_seqlens).tolist()
        columns = (batch.source_ids.tolist(), batch.row_ids, batch.documents.tolist(), batch.offsets.tolist(), lengths)
        return [
            SeenRow(batch.source_names[source], row_id, document, offset, length)
            for source, row_id, document, offset, length in zip(*columns, strict=True)
            if row_id is not None
        ]

    def steps_of_row(self, row_id: str, until: int | None = None) -> list[int]:
        """The steps before `until` (default: those handed out) that hold a piece of the row; computed, not logged."""
        limit = self._first_row(self._step if until is None else until)
        taken = self._schedule.taken(limit)
        found: set[int] = set()
        for number, source in enumerate(self.sources):
            if not taken[number]:
                continue
            for document in source.store.documents_of(row_id):
                for epoch in range(source.epoch_of(taken[number] - 1) + 1):
                    draws = [draw for draw in source.draws_of(document, epoch) if draw < taken[number]]
                    rows = [self._schedule.row_of(number, draw) for draw in draws]
                    found.update(self._step_of(row) for row in rows if row is not None and row < limit)
        return sorted(found)

    def account(self, step: int | None = None) -> dict[str, Account]:
        """Rows, tokens and epochs of each source within the steps before `step` (default: those handed out)."""
        taken = self._schedule.taken(self._first_row(self._step if step is None else step))
        found = {}
        for source, rows in zip(self.sources, taken, strict=True):
            epoch = source.epoch_of(rows)
            part = (rows - source.epoch_start(epoch)) / source.plan(epoch).num_rows
            found[source.name] = Account(rows, source.tokens_within(rows), epoch + part)
        return found

    def reports(self) -> dict[str, PackingReport]:
        """What packing did to the documents of each source."""
        return {source.name: source.report for source in self.sources}

    # Inside

    def _restart(self, log: Sequence[Change], step: int) -> None:
        self._log: list[Change] = []
        self._eras: list[_Era] = []
        for change in log:
            self._enter(change)
        self._step = step
        self._block: _Block | None = None

    def _change(self, change: Change) -> Change:
        self._enter(change)
        self._block = None
        return change

    def _enter(self, change: Change) -> None:
        if not self._log:
            if change.weights is None or change.batch_size is None:
                raise RecipeError("the loader's log does not begin with weights and a batch size")
            self._schedule = Schedule(change.weights)
            self._eras = [_Era(0, 0, change.batch_size)]
        else:
            if change.weights is not None:
                self._schedule.change(change.row, change.weights)
            last = self._eras[-1]
            if change.batch_size is not None:
                steps, rest = divmod(change.row - last.first_row, last.batch_size)
                if rest:
                    raise RecipeError(
                        f"row {change.row} is not the first of a step, so the batch size cannot change there"
                    )
                self._eras.append(_Era(change.row, last.first_step + steps, change.batch_size))
        self._log.append(change)

    def _era(self, step: int) -> _Era:
        if step < 0:
            raise IndexError(f"step {step}: steps count from 0")
        return self._eras[bisect_right(self._eras, step, key=lambda era: era.first_step) - 1]

    def _first_row(self, step: int) -> int:
        era = self._era(step)
        return era.first_row + (step - era.first_step) * era.batch_size

    def _step_of(self, row: int) -> int:
        era = self._eras[bisect_right(self._eras, row, key=lambda era: era.first_row) - 1]
        return era.first_step + (row - era.first_row) // era.batch_size

    def _block_of(self, step: int, era: _Era) -> _Block:
        if self._block is None or not self._block.first_step <= step < self._block.stop_step:
            steps = max(1, _BLOCK_ROWS // era.batch_size)
            first = era.first_step + (step - era.first_step) // steps * steps
            stop = first + steps
            later = [other.first_step for other in self._eras if other.first_step > step]
            stop = min([stop, *later])
            self._block = _Block(first, stop, self._layout(self._rows(first, stop, era)))
        return self._block

    def _rows(self, first_step: int, stop_step: int, era: _Era) -> Rows:
        """The rows of some steps, shuffled within each step so that ranks do not see the mixture's rhythm."""
        first = era.first_row + (first_step - era.first_step) * era.batch_size
        count = (stop_step - first_step) * era.batch_size
        sources, draws = self._schedule.place(first, first + count)
        epochs, rows = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for number, source in enumerate(self.sources):
            here = np.flatnonzero(sources == number)
            epochs[here] = source.epochs_of(draws[here])
            for epoch in range(int(epochs[here].min()), int(epochs[here].max()) + 1) if len(here) else ():
                chosen = here[epochs[here] == epoch]
                rows[chosen] = source.rows(epoch, draws[chosen] - source.epoch_start(epoch))
        if self.settings.shuffle and len(self.sources) > 1:
            keys = marks(np.arange(first, first + count), key_of("step", self.settings.seed))
            inside = np.argsort(keys.reshape(-1, era.batch_size), axis=1, kind="stable")
            order = (inside + np.arange(0, count, era.batch_size)[:, None]).reshape(-1)
            sources, epochs, rows = sources[order], epochs[order], rows[order]
        return Rows(sources, epochs, rows)

    def _layout(self, rows: Rows) -> Layout:
        return Layout(self.sources, rows, self.settings.seq_len, crop=self.settings.packing.method == "one")

    def _described(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "seq_len": settings.seq_len,
            "packing": {"method": settings.packing.method, **settings.packing.values()},
            "seed": settings.seed,
            "shuffle": settings.shuffle,
        }

    def _check_batch_size(self, batch_size: int) -> None:
        if batch_size < 1 or batch_size % self.world_size:
            raise RecipeError(
                f"a batch of {batch_size} rows cannot be dealt to {self.world_size} ranks",
                "`batch_size` counts the rows of a whole step and is a multiple of `world_size`.",
            )


def _entry(change: Change) -> list[Any]:
    """A change for the state, without the fields at its end that say nothing."""
    entry = [change.row, change.weights and list(change.weights), change.batch_size, change.reason]
    while not entry[-1]:
        entry.pop()
    return entry


def _change_of(entry: Sequence[Any]) -> Change:
    row, weights, batch_size, reason = (*entry, None, None, None)[:4]
    return Change(row, weights and tuple(weights), batch_size, reason or "")


def _check_compatible(sources: Sequence[SourceRows]) -> None:
    first = sources[0].store.layout
    for source in sources[1:]:
        layout = source.store.layout
        if (layout.tokenizer, layout.vocab_size) != (first.tokenizer, first.vocab_size):
            raise RecipeError(
                f"the sources `{sources[0].name}` and `{source.name}` were tokenised with different tokenizers",
                "Tokenise all sources of a mixture with one.",
            )
