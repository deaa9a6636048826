"""The work behind `loader`: where a reader stands, its state, and questions about rows."""

from __future__ import annotations

import json
import warnings
import weakref
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._course import Change, Course, Settings, check_shares
from ._gather import Rows
from ._mixing import TOTAL, Spent
from ._packing import PackingReport
from ._permutation import key_of
from ._prefetch import Prefetch
from ._rails import MaxEpochs, epochs_of
from ._totals import Totals
from .batch import Batch
from .mixing import Mixture, checked_weights
from .store import TokenStore

Int64s = npt.NDArray[np.int64]

_STATE, _FORMER = "stillhouse-loader/2", "stillhouse-loader/1"
"""How states are written; former ones, whose logs are longer, are still read."""


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
    learnt: int
    """Tokens that counted in the loss: those with a weight, the first of each span aside."""
    padding: int
    """Positions of these rows without a token (with `Packing("one")`, batches are cut to their longest row)."""
    share: float
    """Of all tokens given."""


class Loader:
    """Batches without end, each a function of the sources, the settings, the log of changes and the step's number.

    Iterating goes on from `step`; `batch(step)` gives any. Made by `get_loader`.

    With `prefetch`, a thread gathers that many batches ahead of iterating. They are no part of the state, and a change
    drops them: it holds from `step` on, the first that was not handed out, whatever the depth. `close()` ends the
    thread, as leaving `with loader:` and letting go of the loader do.
    """

    def __init__(
        self,
        stores: Mapping[str, TokenStore],
        settings: Settings,
        batch_size: int,
        mixture: Mixture,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 0,
    ) -> None:
        if not 0 <= rank < world_size:
            raise RecipeError(f"rank {rank} of {world_size}", "Ranks count from 0 to `world_size` - 1.")
        if prefetch < 0:
            raise RecipeError(f"`prefetch` is {prefetch}", "It is a number of batches; 0 gathers none ahead.")
        self.settings = settings
        self.rank, self.world_size = rank, world_size
        batch_size = check_shares(batch_size, world_size)
        self._course = course = Course(stores, settings, batch_size, mixture)
        self.sources = course.sources
        self._begun_with = course.log[0]
        self._totals = {source.name: Totals(source) for source in self.sources}
        self._step = 0
        self._peeked: Batch | None = None
        self._prefetch = Prefetch(lambda step: course.batch(step, rank, world_size), prefetch) if prefetch else None
        if self._prefetch is not None:
            weakref.finalize(self, self._prefetch.close)

    # Reading

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self._step

    @property
    def batch_size(self) -> int:
        """Rows of a step, all ranks together."""
        return self._course.batch_size(self._step)

    @property
    def weights(self) -> dict[str, float]:
        """The shares of rows that hold for the next step."""
        with self._course.lock:
            current = self._course.schedule.weights(self._row)
        whole = sum(current)
        return {source.name: weight / whole for source, weight in zip(self.sources, current, strict=True)}

    @property
    def end(self) -> int | None:
        """The number of steps for which the sources suffice under `max_epochs`; None where they do for ever."""
        return self._course.end

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, self._peeked = self.peek(), None
        self._step += 1
        return batch

    def peek(self) -> Batch:
        """The batch that comes next. Looking hands nothing out: a state or a change stands where it would without."""
        batch = self._peeked
        if batch is None:  # `_peeked` may be set anew while waiting: by changes from another thread
            batch = self._prefetch.take(self._step) if self._prefetch is not None else self.batch(self._step)
            self._peeked = batch
        return batch

    def batch(self, step: int) -> Batch:
        """This rank's rows of any step."""
        return self._course.batch(step, self.rank, self.world_size)

    def row(self, row: int) -> Batch:
        """Any row of the run as a batch of one; rows count from 0 over all steps and ranks."""
        return self._course.row(row)

    def first_row(self, step: int) -> int:
        """The number of a step's first row."""
        return self._course.first_row(step)

    def once(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Each document of each source once, row by row of the plan: for evaluation. Padding fills the last batch.

        `concat` and `one` keep the documents in their order, other packings do not; with `too_long="leave_out"` those
        that are longer than a row do not come (`reports()` counts them). All ranks get the same number of batches;
        `step` counts them from 0.
        """
        size = check_shares(batch_size or self.batch_size, self.world_size)
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
            with self._course.lock:
                batch = self._course.layout(rows).batch(0, share, step=step, first_row=int(numbers[0]))
            yield batch

    @property
    def rows_per_epoch(self) -> int:
        """Rows of one pass over all sources."""
        return sum(source.rows_per_epoch for source in self.sources)

    def steps_in(self, epochs: float) -> int:
        """Steps that it takes to hand out `epochs` times the rows of all sources; the last may run into the next."""
        return max(1, -(-round(epochs * self.rows_per_epoch) // self.batch_size))

    def close(self) -> None:
        """End the thread that gathers ahead; reading goes on without."""
        if self._prefetch is not None:
            self._prefetch.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    # Changing

    def set_weights(self, weights: Mapping[str, float], *, reason: str = "") -> Change:
        """New shares, from the next step on, in place of the policy; guard rails hold. Returns what came of it.

        Steps handed out stay as they were; nothing is skipped or repeated. Ranks that make the same changes at the same
        steps go on seeing the same global batches.
        """
        course = self._course
        values = [*checked_weights(weights, dict.fromkeys(course.names)).values()]
        with course.lock:
            if course.mixture.max_change is not None:
                values = course.rails.nearer(values, course.schedule.weights(self._row))
            return self._change(weights=course.rails.weights(values), reason=reason)

    def set_batch_size(self, batch_size: int, *, reason: str = "") -> Change:
        """Another number of rows a step, from the next step on."""
        batch_size = check_shares(batch_size, self.world_size)
        return self._change(batch_size=batch_size, reason=reason)

    def set_max_epochs(self, max_epochs: float | Mapping[str, float] | None, *, reason: str = "") -> Change:
        """How often sources may be read, from the next step on."""
        return self._change(max_epochs=epochs_of(max_epochs, self._course.names), reason=reason)

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that another loader over the same sources needs to go on.

        A few integers, fingerprints and the log, to which each change of weights adds four characters for each source;
        for packing that is done anew each epoch also a number for each epoch so far.
        """
        with self._course.lock:
            ends = {source.name: source.epoch_ends() for source in self.sources}
            return {
                "format": _STATE,
                "step": self._step,
                "settings": self._course.described(),
                "sources": {source.name: source.store.fingerprint for source in self.sources},
                "order": list(self._course.names),
                "sizes": {s.name: [s.store.num_documents, s.store.num_tokens] for s in self.sources},
                **_written(self._course.log),
                "epoch_ends": {name: found for name, found in ends.items() if found is not None},
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Ranks may differ; sources and settings may not (`RecipeError` says which).

        Weights, batch size and `max_epochs` are those of the state's log; a warning tells where this loader was made
        with others. Nothing has changed where an error is raised.
        """
        if not isinstance(state, Mapping):
            raise RecipeError(
                f"the loader's state is of type `{type(state).__name__}`",
                "Give the mapping that `state_dict()` gave.",
            )
        mine = {
            "format": _STATE,
            **self._course.described(),
            **{f"source {s.name}": s.store.fingerprint for s in self.sources},
        }
        try:
            form = state.get("format")
            other = {"format": _STATE if form == _FORMER else form, **state.get("settings", {})}
            other |= {f"source {name}": found for name, found in state.get("sources", {}).items()}
        except (TypeError, AttributeError) as error:
            raise _damaged(error) from error
        differing = [key for key in {**other, **mine} if mine.get(key) != other.get(key)]
        if differing:
            then, now = (_sizes(one) for one in (state, self.state_dict()))
            lines = []
            for key in differing:
                left, right = (
                    f"{other.get(key, 'none')}{then.get(key, '')}",
                    f"{mine.get(key, 'none')}{now.get(key, '')}",
                )
                lines.append(f"{key}: {left} then, {right} now")
            raise RecipeError(
                "the loader's state belongs to other data: " + "; ".join(lines),
                self._remedy({key.removeprefix("source "): other.get(key) for key in differing}),
            )
        self._check_order(state)
        step, log, ends = self._read(state)
        course = self._course
        with course.lock:
            former = course.log
            for source in self.sources:
                source.recall_epoch_ends(ends.get(source.name, []))
            try:
                course.restart(log)
                check_shares(course.batch_size(step), self.world_size)
            except (RecipeError, Spent, TypeError, ValueError, IndexError) as error:
                course.restart(former)
                if isinstance(error, RecipeError):
                    raise
                raise _damaged(error) from error
            self._step = step
        self._forget()
        self._warn_of_arguments(log)

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides what is handed out, the log included."""
        state = self.state_dict()
        del state["step"], state["epoch_ends"], state["sizes"]
        state.pop("reasons", None)
        # However a state is written, as Grain's checkpoints hold it.
        state |= {"format": _FORMER, "log": _in_full(self._course.log)}
        return f"{key_of(json.dumps(state, sort_keys=True)):016x}"

    # Questions

    def rows_at_step(self, step: int) -> list[SeenRow]:
        """What all ranks see in a step, in order, be it past or to come; computed, not logged."""
        batch = self._course.batch(step, 0, 1)
        lengths = np.diff(batch.cu_seqlens).tolist()
        columns = (batch.source_ids.tolist(), batch.row_ids, batch.documents.tolist(), batch.offsets.tolist(), lengths)
        return [
            SeenRow(batch.source_names[source], row_id, document, offset, length)
            for source, row_id, document, offset, length in zip(*columns, strict=True)
            if row_id is not None
        ]

    def steps_of_row(self, row_id: str, until: int | None = None) -> list[int]:
        """The steps before `until` (default: those handed out) that hold a piece of the row; computed, not logged.

        The id is that of the row that was tokenised; `stillhouse trace` leads there from the rows it was made from.
        """
        course = self._course
        with course.lock:
            limit = self._row if until is None else self._row_before(until)
            taken = course.schedule.taken(limit)
            found: set[int] = set()
            for number, source in enumerate(self.sources):
                if not taken[number]:
                    continue
                for document in source.store.documents_of(row_id):
                    for epoch in range(source.epoch_of(taken[number] - 1) + 1):
                        draws = [draw for draw in source.draws_of(document, epoch) if draw < taken[number]]
                        rows = [course.schedule.row_of(number, draw) for draw in draws]
                        found.update(course.step_of(row) for row in rows if row is not None and row < limit)
        return sorted(found)

    def account(self, step: int | None = None) -> dict[str, Account]:
        """What each source gave within the steps before `step` (default: those handed out)."""
        course = self._course
        found = {}
        with course.lock:
            taken = course.schedule.taken(self._row if step is None else self._row_before(step))
            totals = [self._totals[source.name].within(rows) for source, rows in zip(self.sources, taken, strict=True)]
            whole = max(1, sum(total.tokens for total in totals))
            for source, rows, total in zip(self.sources, taken, totals, strict=True):
                epoch = source.epoch_of(rows)
                part = (rows - source.epoch_start(epoch)) / source.plan(epoch).num_rows
                padding = rows * self.settings.seq_len - total.tokens
                share = total.tokens / whole
                found[source.name] = Account(rows, total.tokens, epoch + part, total.learnt, padding, share)
        return found

    def reports(self) -> dict[str, PackingReport]:
        """What packing did to the documents of each source."""
        return {source.name: source.report for source in self.sources}

    # Inside

    @property
    def _row(self) -> int:
        return self._course.first_row(self._step)

    def _row_before(self, step: int) -> int:
        """The first row of a step, which may be the one after the last."""
        row, end = self._course.first_row(step), self._course.schedule.end
        return row if end is None else min(row, end)

    def _change(
        self,
        *,
        weights: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        max_epochs: MaxEpochs | None = None,
        reason: str = "",
    ) -> Change:
        change = self._course.enter(Change(self._row, weights, batch_size, reason, max_epochs, self._step))
        self._forget()
        return change

    def _forget(self) -> None:
        self._peeked = None
        if self._prefetch is not None:
            self._prefetch.forget()

    def _remedy(self, differing: Mapping[str, Any]) -> str:
        for source in self.sources:
            former = differing.get(source.name)
            if isinstance(former, str) and source.store.had(former):
                return (
                    f"Rows were added to `{source.name}` since. To go on as it was, give "
                    f"TokenStore({str(source.store.folder)!r}, fingerprint={former!r}) as the source; with the new "
                    "rows, begin a new run."
                )
        return "Give the sources and settings of the run that is to go on, or begin a new one."

    def _check_order(self, state: Mapping[str, Any]) -> None:
        """The log, and which rows come when, go by the sources' places; a dictionary's may change on its way here."""
        then, now = [*state.get("order", state["sources"])], [*self._course.names]
        if then != now:
            raise RecipeError(
                f"the sources of the loader's state stood in the order {', '.join(then)}, now in {', '.join(now)}",
                "Give them in that order: it decides which rows come when.",
            )

    def _read(self, state: Mapping[str, Any]) -> tuple[int, list[Change], dict[str, list[int]]]:
        """Step, log and ends of epochs of a state that another program may have written."""
        try:
            step, log = state["step"], _changes(state, len(self.sources))
            ends = {name: [int(end) for end in found] for name, found in state.get("epoch_ends", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise _damaged(error) from error
        if not isinstance(step, int) or step < 0:
            raise _damaged(f"the step is {step!r}")
        return step, log, ends

    def _warn_of_arguments(self, log: Sequence[Change]) -> None:
        if not log:
            return
        for name in ("weights", "batch_size", "max_epochs"):
            then, now = getattr(log[0], name), getattr(self._begun_with, name)
            if name == "max_epochs":
                then = then or (None,) * len(self.sources)
            if then != now:
                setter = f"Change it with `loader.set_{name}`."
                text = f"the loader goes on with the {name.replace('_', ' ')} of its state, not those given. {setter}"
                warnings.warn(text, stacklevel=4)


def _written(log: Sequence[Change]) -> dict[str, Any]:
    """The log for the state, as short as can be: a run that changes its weights often has a long one.

    An entry is [rows since the entry before, weights, reason, batch size, limits], without what says nothing at its
    end. Reasons stand apart, each once, and are counted from 1.
    """
    reasons = {
        reason: number for number, reason in enumerate(dict.fromkeys(c.reason for c in log if c.reason), start=1)
    }
    entries, row = [], 0
    for change, (*_, epochs) in zip(log, _unshortened(log), strict=True):
        weights = change.weights and _as_text(change.weights)
        entries.append(
            _shortened([change.row - row, weights, reasons.get(change.reason, 0), change.batch_size, epochs])
        )
        row = change.row
    return {"log": entries, **({"reasons": list(reasons)} if reasons else {})}


def _in_full(log: Sequence[Change]) -> list[list[Any]]:
    """The log as former states hold it, and as it counts in a fingerprint."""
    return [_shortened(entry) for entry in _unshortened(log)]


def _unshortened(log: Sequence[Change]) -> Iterator[list[Any]]:
    for change in log:
        limits = change.max_epochs
        epochs = None if limits is None or (change is log[0] and not any(limits)) else [*limits]
        yield [change.row, change.weights and list(change.weights), change.batch_size, change.reason, epochs]


def _shortened(entry: list[Any]) -> list[Any]:
    while not entry[-1] and len(entry) > 1:
        entry.pop()
    return entry


def _as_text(weights: Sequence[int]) -> str | list[int]:
    """Three bytes each, in base64; the last is what the others leave of 2²⁴. One that has all does not fit in there."""
    if TOTAL in weights:
        return list(weights)
    return b64encode(b"".join(weight.to_bytes(3, "big") for weight in weights[:-1])).decode()


def _changes(state: Mapping[str, Any], num_sources: int) -> list[Change]:
    """The log of a state."""
    reasons, row, found = ["", *state.get("reasons", [])], 0, []
    for entry in state["log"]:
        if state["format"] == _FORMER:
            row, weights, batch_size, reason, epochs = (*entry, None, None, None, None)[:5]
        else:
            since, weights, number, batch_size, epochs = (*entry, None, None, None, None)[:5]
            if number is not None and number < 0:
                raise ValueError(f"there is no reason {number}")
            row, reason = row + since, reasons[number or 0]
        if not isinstance(reason, str | None):
            raise ValueError(f"the reason {reason!r}")
        if isinstance(weights, str):
            data = b64decode(weights, validate=True)
            if len(data) != 3 * (num_sources - 1):
                raise ValueError(f"the log names {1 + len(data) // 3} of {num_sources} sources")
            weights = [int.from_bytes(data[place : place + 3], "big") for place in range(0, len(data), 3)]
            weights.append(TOTAL - sum(weights))
        for values in (weights, epochs):
            if values is not None and len(values) != num_sources:
                raise ValueError(f"the log names {len(values)} of {num_sources} sources")
        if not isinstance(row, int) or (weights is not None and (min(weights) < 0 or sum(weights) != TOTAL)):
            raise ValueError(f"the entry {list(entry)} of the log")
        if batch_size is not None:
            check_shares(batch_size, 1)
        found.append(Change(row, weights and tuple(weights), batch_size, reason or "", epochs and tuple(epochs)))
    return found


def _sizes(state: Mapping[str, Any]) -> dict[str, str]:
    """What each source held, for people; states of before do not tell, and nothing rests on it."""
    try:
        return {
            f"source {name}": f" ({documents:,} documents, {tokens:,} tokens)"
            for name, (documents, tokens) in state.get("sizes", {}).items()
        }
    except (TypeError, ValueError, AttributeError):
        return {}


def _damaged(why: object) -> RecipeError:
    told = f"`{why.args[0]}` is missing" if isinstance(why, KeyError) else str(why)
    return RecipeError(f"the loader's state is damaged: {told}", "Give what `state_dict()` gave, unchanged.")
