"""The rows of a run's steps: a function of the sources, the settings and the log of changes."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ..core.keys import digest
from ._epochs import SourceRows
from ._gather import Layout, Rows
from ._mixing import Schedule, Spent
from ._mixing import Stage as RowStage
from ._permutation import key_of, marks
from ._rails import GuardRails, MaxEpochs
from ._segments import Extra
from .batch import Batch
from .mixing import Mixture, checked_weights
from .packing import Packing
from .policy import NaturalMix
from .store import TokenStore
from .window_shuffle import WindowShuffle

Int64s = npt.NDArray[np.int64]

_BLOCK_ROWS, _READING_ON = 4096, 4
"""Rows that are planned together, enough to make planning a small part of a batch's cost, and how many times as many
for who reads block after block."""
_MOST_TOKENS = 1 << 25
"""Tokens of such a longer block: what is known of its documents is held in memory."""


@dataclass(frozen=True)
class Settings:
    """What rows are made of; loaders with equal settings and sources hand out equal batches."""

    seq_len: int
    packing: Packing
    seed: int
    shuffle: bool | WindowShuffle = True

    def __post_init__(self) -> None:
        for name in ("seq_len", "seed"):  # a numpy integer could not be written into a state
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))
        if self.seq_len < 2:
            raise RecipeError(f"`seq_len` is {self.seq_len}", "A row has at least 2 tokens: the first is never learnt.")
        if not isinstance(self.packing, Packing):
            raise RecipeError(f"`packing` is {self.packing!r}", 'Give a `Packing`, for instance `Packing("best_fit")`.')
        if not isinstance(self.shuffle, bool | WindowShuffle):
            raise RecipeError(f"`shuffle` is {self.shuffle!r}", 'It is True, False, "window" or a `WindowShuffle`.')


@dataclass(frozen=True)
class Change:
    """An entry of the log: from `row`, the first of `step`, on, these hold (None: as before).

    `weights` are of rows, within the mixture's floors and ceilings, and sum to 2²⁴.
    """

    row: int
    weights: tuple[int, ...] | None = None
    batch_size: int | None = None
    reason: str = ""
    max_epochs: MaxEpochs | None = None
    step: int = 0


class _Era(NamedTuple):
    """Steps of one batch size: step `first_step` begins at row `first_row`."""

    first_row: int
    first_step: int
    batch_size: int


class _Block(NamedTuple):
    """Steps that were planned together, all of one batch size."""

    first_step: int
    stop_step: int
    first_row: int
    batch_size: int
    layout: Layout


class _Stage(NamedTuple):
    step: int
    weights: tuple[int, ...]


class Course:
    """Which rows every step has. It knows the log, but not where a reader stands; threads may ask it at once."""

    def __init__(self, stores: Mapping[str, TokenStore], settings: Settings, batch_size: int, mixture: Mixture) -> None:
        self.settings = settings
        self.mixture = mixture
        self.lock = RLock()
        """Held while planning and gathering: what is remembered between them belongs together."""
        self.sources = [
            SourceRows(name, store, settings.packing, settings.seq_len, settings.seed, shuffle=settings.shuffle)
            for name, store in stores.items()
        ]
        _check_compatible(self.sources)
        self.names = tuple(source.name for source in self.sources)
        self.rails = GuardRails(mixture, self.sources)
        self._check_room()
        self._near: dict[str, tuple[int, int]] = {}
        """Epoch and window of each remote source up to which segments are being fetched."""
        self._stages = self._policy_stages()
        self.restart([Change(0, self._stages[0].weights, batch_size, max_epochs=self.rails.max_epochs)])

    # The log

    def restart(self, log: Sequence[Change]) -> None:
        """Begin with another log."""
        first = log[0] if log else Change(0)
        if first.weights is None or first.batch_size is None or first.row:
            raise RecipeError("the loader's log does not begin with weights and a batch size")
        with self.lock:
            self.rails = GuardRails(self.mixture, self.sources, first.max_epochs or (None,) * len(self.sources))
            self._eras = [_Era(0, 0, first.batch_size)]
            self._staged = len(self._stages) > 1
            self.schedule = Schedule(first.weights, self.rails, self._later_stages(0))
            self.log = [first]
            self._block: _Block | None = None
            for change in log[1:]:
                self.enter(change)

    def enter(self, change: Change) -> Change:
        """Put a change at the log's end."""
        with self.lock:
            last = self._eras[-1]
            steps, rest = divmod(change.row - last.first_row, last.batch_size)
            if rest:
                raise RecipeError(f"row {change.row} is not the first of a step, so nothing can change there")
            if change.batch_size is not None:
                self._eras.append(_Era(change.row, last.first_step + steps, change.batch_size))
            if change.max_epochs is not None:
                self.rails = GuardRails(self.mixture, self.sources, change.max_epochs)
            self._staged = self._staged and change.weights is None  # who sets weights takes over from the policy
            stages = self._later_stages(change.row)
            self.schedule.change(change.row, change.weights, stages=stages, rails=self.rails)
            self.log.append(change)
            self._block = None
            return change

    def described(self) -> dict[str, Any]:
        """What a state must agree in, besides the sources."""
        settings, mixture = self.settings, self.mixture
        found: dict[str, Any] = {
            "seq_len": settings.seq_len,
            "packing": {"method": settings.packing.method, **settings.packing.values()},
            "seed": settings.seed,
            "shuffle": settings.shuffle.values() if isinstance(settings.shuffle, WindowShuffle) else settings.shuffle,
        }
        if mixture.share != "rows":
            found["share"] = mixture.share
        for name, bounds in (("floors", mixture.floors), ("ceilings", mixture.ceilings)):
            if bounds:
                found[name] = dict(sorted(bounds.items()))
        if len(self._stages) > 1:
            found["policy"] = digest(json.dumps(self._stages).encode())
        return found

    # Steps and rows

    def batch_size(self, step: int) -> int:
        return self._era(step).batch_size

    def first_row(self, step: int) -> int:
        era = self._era(step)
        return era.first_row + (step - era.first_step) * era.batch_size

    def step_of(self, row: int) -> int:
        era = self._eras[bisect_right(self._eras, row, key=lambda era: era.first_row) - 1]
        return era.first_step + (row - era.first_row) // era.batch_size

    def batch(self, step: int, rank: int, world_size: int) -> Batch:
        """One rank's rows of a step."""
        step = checked_number("step", step)
        with self.lock:
            block = self._block_of(step)
            share, rest = divmod(block.batch_size, world_size)
            if rest:
                check_shares(block.batch_size, world_size)
            first = (step - block.first_step) * block.batch_size + rank * share
            return block.layout.batch(first, first + share, step=step, first_row=block.first_row + first)

    def row(self, row: int) -> Batch:
        """One row as a batch."""
        with self.lock:
            step = self.step_of(row)
            block = self._block_of(step)
            first = row - block.first_row
            return block.layout.batch(first, first + 1, step=step, first_row=row)

    def layout(self, rows: Rows) -> Layout:
        """Any rows, laid out for gathering."""
        return Layout(self.sources, rows, self.settings.seq_len, crop=self.settings.packing.method == "one")

    @property
    def end(self) -> int | None:
        """The step for which the sources no longer suffice; None where there is none."""
        with self.lock:
            row = self.schedule.end
        return None if row is None else self.step_of(row)

    # Inside

    def _policy_stages(self) -> list[_Stage]:
        if self.mixture.weights is not None and self.mixture.policy is not None:
            raise RecipeError("Mixture: there are weights and a policy", "Give one of them.")
        if self.mixture.weights is not None:
            return [_Stage(0, self.rails.weights([self.mixture.weights[name] for name in self.names]))]
        policy = self.mixture.policy or NaturalMix()
        in_tokens = self.mixture.share == "tokens"
        sizes = {s.name: float(s.tokens_per_epoch if in_tokens else s.rows_per_epoch) for s in self.sources}
        found = []
        for stage in policy(sizes):
            checked = checked_weights(stage.weights, sizes)
            found.append(_Stage(stage.step, self.rails.weights([*checked.values()])))
        if not found or found[0].step != 0:
            raise RecipeError("Mixture: the policy does not say what holds at step 0", "Its first stage begins there.")
        return found

    def _later_stages(self, row: int) -> list[RowStage]:
        if not self._staged:
            return []
        placed = [RowStage(self.first_row(stage.step), stage.weights) for stage in self._stages]
        return [stage for stage in placed if stage.row > row]

    def _era(self, step: int) -> _Era:
        if checked_number("step", step) < 0:
            raise RecipeError(f"there is no step {step}", "Steps count from 0.")
        return self._eras[bisect_right(self._eras, step, key=lambda era: era.first_step) - 1]

    def _block_of(self, step: int) -> _Block:
        block = self._block
        if block is None or not block.first_step <= step < block.stop_step:
            self._block = block = self._planned(step)
        return block

    def _planned(self, step: int) -> _Block:
        """The block of steps around one; blocks lie on a grid, so that going back plans no more than going on."""
        era = self._era(step)
        # Each epoch of a source in a block costs an order of its own, so a block of small sources is small.
        few = 2 * sum(source.rows_per_epoch for source in self.sources)
        steps = max(1, min(_BLOCK_ROWS, few) // era.batch_size)
        first = era.first_step + (step - era.first_step) // steps * steps
        if self._block is not None and step == first == self._block.stop_step:
            longer = min(_READING_ON * _BLOCK_ROWS, few, _MOST_TOKENS // self.settings.seq_len)
            steps = max(steps, longer // era.batch_size)
        stop = min([first + steps, *(other.first_step for other in self._eras if other.first_step > step)])
        try:
            rows = self.rows(first, stop)
        except Spent as spent:
            stop = self.step_of(spent.row)
            if step >= stop:
                raise self._nothing_left(stop) from None
            rows = self.rows(first, stop)
        self._fetch_ahead(self.first_row(stop))
        return _Block(first, stop, self.first_row(first), era.batch_size, self.layout(rows))

    def _fetch_ahead(self, row: int) -> None:
        """Have the segments of remote sources fetched that rows from here on need: two windows, as far as they go."""
        num_remote = sum(source.store.remote is not None for source in self.sources)
        if not num_remote:
            return
        taken = self.schedule.taken(row)
        for source, draw in zip(self.sources, taken, strict=True):
            remote = source.store.remote
            if remote is None or (near := source.segments_near(draw)) is None:
                continue
            window = source.window_of(draw)
            if self._near.get(source.name) != window:
                self._near[source.name] = window
                store, room, wanted = source.store, remote.max_bytes // num_remote, []
                for segment in [store.segments[number] for number in near]:
                    room -= segment.num_tokens * sum(store.layout.token_files().values())
                    if room >= 0:  # more would push out what is needed before it
                        wanted += [(segment, name) for name in store.layout.token_files()]
                remote.fetch_ahead(wanted)

    def _check_room(self) -> None:
        """Refuse what would fetch the same segments again and again."""
        for source in self.sources:
            remote = source.store.remote
            if remote is None:
                continue
            per_token = sum(source.store.layout.token_files().values())
            sizes = [segment.num_tokens * per_token for segment in source.store.segments]
            order = source.segments_near(0)
            needed = sum(sizes) if order is None else sum(sizes[number] for number in source.segments_of_window(0))
            if needed <= remote.max_bytes or (order is None and not self.settings.shuffle):
                continue
            room = f"{needed / 1e9:.3g} GB at hand, and {remote.max_bytes / 1e9:.3g} GB may be kept here"
            if order is None:
                raise RecipeError(
                    f"the source `{source.name}` is elsewhere, and shuffled as a whole it needs {room}",
                    'Shuffle in windows (`shuffle="window"`), with `Packing("concat")` or another that keeps the order '
                    "of documents, or make room: `stillhouse.core.fetched.keep_fetched(folder, max_bytes)`.",
                )
            raise RecipeError(
                f"the source `{source.name}` is elsewhere, and a window of its rows needs {room}",
                "Take a smaller `WindowShuffle(window=…)` or fewer `blocks`, a packing that keeps the order of "
                'documents (`Packing("concat")`), or make room: '
                "`stillhouse.core.fetched.keep_fetched(folder, max_bytes)`.",
            )

    def rows(self, first_step: int, stop_step: int) -> Rows:
        """The rows of some steps of one batch size, shuffled within each so that ranks do not see the mix's rhythm."""
        size = self.batch_size(first_step)
        first = self.first_row(first_step)
        count = (stop_step - first_step) * size
        with self.lock:
            sources, draws = self.schedule.place(first, first + count)
            epochs, rows = np.zeros(count, np.int64), np.zeros(count, np.int64)
            for number, source in enumerate(self.sources):
                here = np.flatnonzero(sources == number)
                epochs[here] = source.epochs_of(draws[here])
                for epoch in range(int(epochs[here].min()), int(epochs[here].max()) + 1) if len(here) else ():
                    chosen = here[epochs[here] == epoch]
                    rows[chosen] = source.rows(epoch, draws[chosen] - source.epoch_start(epoch))
        if self.settings.shuffle and len(self.sources) > 1:
            keys = marks(np.arange(first, first + count), key_of("step", self.settings.seed))
            inside = np.argsort(keys.reshape(-1, size), axis=1, kind="stable")
            order = (inside + np.arange(0, count, size)[:, None]).reshape(-1)
            sources, epochs, rows = sources[order], epochs[order], rows[order]
        return Rows(sources, epochs, rows)

    def _nothing_left(self, step: int) -> RecipeError:
        told = []
        for name, most in zip(self.names, self.rails.max_epochs, strict=True):
            told.append(f"`{name}` {most:g} times" if most is not None else f"`{name}` without end, at a weight of 0")
        return RecipeError(
            f"the sources with a weight do not suffice for step {step}: `max_epochs` lets {', '.join(told)} be read",
            f"End after {step} steps (`loader.end`), add rows, set other weights, or allow more with "
            "`loader.set_max_epochs` (for a new run: `Mixture(…, max_epochs=…)`).",
        )


def checked_number(name: str, value: object) -> int:
    """`value` as a whole number; raises `RecipeError` where it is none."""
    if isinstance(value, Integral):
        return int(value)
    raise RecipeError(f"`{name}` is {value!r}", "It is a whole number.")


def check_shares(batch_size: int, world_size: int) -> int:
    """The batch size; raises `RecipeError` where the ranks would not have equal shares of a step."""
    batch_size = checked_number("batch_size", batch_size)
    if batch_size < 1 or batch_size % world_size:
        raise RecipeError(
            f"a batch of {batch_size} rows cannot be dealt to {world_size} ranks",
            "`batch_size` counts the rows of a whole step and is a multiple of `world_size`. A state keeps that of its "
            "run: to change it, load the state with `world_size=1`, call `set_batch_size`, and take the state anew.",
        )
    return batch_size


def _check_compatible(sources: Sequence[SourceRows]) -> None:
    first = sources[0].store.layout
    for source in sources[1:]:
        layout = source.store.layout
        if (layout.tokenizer, layout.vocab_size) != (first.tokenizer, first.vocab_size):
            raise RecipeError(
                f"the sources `{sources[0].name}` and `{source.name}` were tokenised with different tokenizers",
                "Tokenise all sources of a mixture with one.",
            )
    extras: dict[str, Extra] = {}
    for source in sources:
        for extra in source.store.layout.extras:
            if extras.setdefault(extra.name, extra) != extra:
                raise RecipeError(
                    f"the extra array `{extra.name}` of the source `{source.name}` has another type or width than "
                    "that of the sources before it",
                    "Give arrays of one type and width the same name, others another.",
                )
