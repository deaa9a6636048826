"""One source of a loader: which row of its plan comes as its n-th, over epochs without end."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._packing import PackingReport, Plan, make_plan
from ._permutation import key_of, permuted, unpermuted
from .packing import Packing
from .store import TokenStore

Int64s = npt.NDArray[np.int64]


class SourceRows:
    """The rows of one token store, epoch after epoch, each epoch in an order of its own.

    Draw n of the source is row `permuted(n - start of its epoch)` of that epoch's plan: each row once an epoch.
    """

    def __init__(
        self, name: str, store: TokenStore, packing: Packing, seq_len: int, seed: int, *, shuffle: bool = True
    ) -> None:
        if not store.num_documents:
            raise RecipeError(f"the source `{name}` is empty", f"`{store.folder}` holds no documents.")
        self.name = name
        self.store = store
        self._packing = packing
        self._seq_len = seq_len
        self._seed = seed
        self._shuffle = shuffle
        self._renewed = packing.method == "windows" and shuffle
        self._plans: dict[int, Plan] = {}
        first = self.plan(0)
        if not first.num_rows:
            raise RecipeError(
                f"the source `{name}` has no document that fits a row of {seq_len} tokens", "Raise `seq_len`."
            )
        self._ends = [first.num_rows]

    @property
    def report(self) -> PackingReport:
        """What packing does to the documents, in the first epoch."""
        return self.plan(0).report

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch; the same in each, except with `windows`, where it varies by a few."""
        return self._ends[0]

    def plan(self, epoch: int) -> Plan:
        number = epoch if self._renewed else 0
        if number not in self._plans:
            while len(self._plans) > 1:  # the present epoch and the one before
                del self._plans[min(self._plans)]
            key = key_of("plan", self._seed, self.name, number)
            self._plans[number] = make_plan(self._packing, self.store.lengths, self._seq_len, key, self._row_id)
        return self._plans[number]

    def epoch_start(self, epoch: int) -> int:
        """The draw that begins an epoch."""
        if not self._renewed:
            return epoch * self._ends[0]
        while len(self._ends) < epoch:
            self._ends.append(self._ends[-1] + self.plan(len(self._ends)).num_rows)
        return self._ends[epoch - 1] if epoch else 0

    def epochs_of(self, draws: Int64s) -> Int64s:
        """The epoch of each draw."""
        if not self._renewed:
            return draws // self._ends[0]
        last = int(draws.max(initial=0))
        while self._ends[-1] <= last:
            self.epoch_start(len(self._ends) + 1)
        return np.searchsorted(np.asarray(self._ends), draws, side="right")

    def epoch_of(self, draw: int) -> int:
        """The epoch of one draw."""
        if not self._renewed:
            return draw // self._ends[0]
        while self._ends[-1] <= draw:
            self.epoch_start(len(self._ends) + 1)
        return bisect_right(self._ends, draw)

    def rows(self, epoch: int, places: Int64s) -> Int64s:
        """The rows of the epoch's plan that come at these places of the epoch."""
        if not self._shuffle:
            return places
        return permuted(places, self.plan(epoch).num_rows, self._key(epoch))

    def draws_of(self, document: int, epoch: int) -> list[int]:
        """The draws of an epoch whose rows hold a piece of the document."""
        rows = np.asarray(self.plan(epoch).rows_of(document), dtype=np.int64)
        places = unpermuted(rows, self.plan(epoch).num_rows, self._key(epoch)) if self._shuffle else rows
        return sorted((places + self.epoch_start(epoch)).tolist())

    def tokens_within(self, num_draws: int) -> int:
        """Document tokens in the first `num_draws` draws."""
        last = self.epoch_of(num_draws)
        before = sum(self.plan(epoch).report.num_tokens for epoch in range(last)) if self._renewed else None
        whole = self.report.num_tokens * last if before is None else before
        rows = self.rows(last, np.arange(num_draws - self.epoch_start(last)))
        return whole + int(self.plan(last).spans(rows).lengths.sum())

    def epoch_ends(self) -> list[int] | None:
        """The ends of epochs that had to be counted; None where they are a multiplication."""
        return list(self._ends) if self._renewed else None

    def recall_epoch_ends(self, ends: list[int]) -> None:
        """Take the ends that a state has kept, so that resuming packs one epoch and not all before it."""
        if self._renewed and ends[:1] == self._ends[:1] and len(ends) > len(self._ends):
            self._ends = list(ends)

    def _key(self, epoch: int) -> int:
        return key_of("rows", self._seed, self.name, epoch)

    def _row_id(self, document: int) -> str:
        return self.store.row_ids([document])[0]
