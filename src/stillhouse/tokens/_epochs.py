"""One source of a loader: which row of its plan comes as its n-th, over epochs without end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._packing import PackingReport, Plan
from ._permutation import key_of, permuted, unpermuted
from ._plan_files import PlanKey, kept_plan
from ._window_shuffle import Extent, WindowOrder
from .packing import Packing
from .store import TokenStore
from .window_shuffle import WindowShuffle

Int64s = npt.NDArray[np.int64]


class SourceRows:
    """The rows of one token store, epoch after epoch, each epoch in an order of its own.

    Draw n of the source is row `permuted(n - start of its epoch)` of that epoch's plan: each row once an epoch.
    """

    def __init__(
        self,
        name: str,
        store: TokenStore,
        packing: Packing,
        seq_len: int,
        seed: int,
        *,
        shuffle: bool | WindowShuffle = True,
    ) -> None:
        if not store.num_documents:
            raise RecipeError(f"the source `{name}` is empty", f"`{store.folder}` holds no documents.")
        self.name = name
        self.store = store
        self._packing = packing
        self._seq_len = seq_len
        self._seed = seed
        self._shuffle = bool(shuffle)
        self._windows = shuffle if isinstance(shuffle, WindowShuffle) else None
        self._renewed = packing.renewed and self._shuffle
        self._in_order = packing.method == "stream" or not self._shuffle
        """Rows come in the order of the plan. Those of `stream` do: its documents were shuffled before."""
        self._plans: dict[int, Plan] = {}
        try:
            first = self.plan(0)
        except RecipeError as error:
            raise RecipeError(f"source `{name}`: {error.message}", error.hint) from error
        if not first.num_rows:
            raise RecipeError(
                f"the source `{name}` has no document that fits a row of {seq_len} tokens", "Raise `seq_len`."
            )
        self._ends = [first.num_rows]
        self.tokens_per_epoch = first.report.num_tokens
        """Document tokens of an epoch, the same in each: packing decides only where they stand."""

    @property
    def report(self) -> PackingReport:
        """What packing does to the documents, in the first epoch."""
        return self.plan(0).report

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch; the same in each, except with `windows` and `stream`, where it varies by a few."""
        return self._ends[0]

    def plan(self, epoch: int) -> Plan:
        number = epoch if self._renewed else 0
        if number not in self._plans:
            while len(self._plans) > 1:  # the present epoch and the one before
                del self._plans[min(self._plans)]
            key = PlanKey(self._packing, self._seq_len, plan_key(self._seed, self.name, number), self._shuffle)
            self._plans[number] = kept_plan(self.store, key, self._row_id)
        return self._plans[number]

    def epoch_start(self, epoch: int) -> int:
        """The draw that begins an epoch."""
        if not self._renewed:
            return epoch * self._ends[0]
        while len(self._ends) < epoch:
            self._ends.append(self._ends[-1] + self.plan(len(self._ends)).num_rows)
        return self._ends[epoch - 1] if epoch else 0

    def rows_of_epochs(self, epochs: float, *, beyond: int) -> int | None:
        """The rows of so many epochs; None where they are more than `beyond` for certain, without counting them.

        Epochs that are packed anew would have to be packed to be counted.
        """
        if self._renewed and beyond < int(epochs * -(-self.tokens_per_epoch // self._seq_len)):
            return None  # fewer rows than that could not hold the tokens
        whole = int(epochs)
        part = epochs - whole
        return self.epoch_start(whole) + (int(part * self.plan(whole).num_rows) if part else 0)

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
        if self._in_order:
            return places
        if self._windows is not None:
            return self.window_order(epoch).rows(places)
        return permuted(places, self.plan(epoch).num_rows, self._key(epoch))

    def window_order(self, epoch: int) -> WindowOrder:
        """The order of an epoch's rows, where they are shuffled in windows."""
        return WindowOrder(self._windows or WindowShuffle(), self.plan(epoch).num_rows, self._key(epoch))

    def draws_of(self, document: int, epoch: int) -> list[int]:
        """The draws of an epoch whose rows hold a piece of the document."""
        rows = np.asarray(self.plan(epoch).rows_of(document), dtype=np.int64)
        if self._in_order:
            places = rows
        elif self._windows is not None:
            places = self.window_order(epoch).places(rows)
        else:
            places = unpermuted(rows, self.plan(epoch).num_rows, self._key(epoch))
        return sorted((places + self.epoch_start(epoch)).tolist())

    def segments_near(self, draw: int) -> list[int] | None:
        """The segments whose tokens the window of a draw needs, then those of the window after it, in that order.

        None where the rows are shuffled over the whole source, so that any may be needed next.
        """
        if self._windows is None or self._in_order:
            return None
        epoch = self.epoch_of(draw)
        place = draw - self.epoch_start(epoch)
        order = self.window_order(epoch)
        window = order.window_of(place)
        found = self._segments_of(epoch, order.extents(window))
        if window + 1 < order.num_windows:
            after = self._segments_of(epoch, order.extents(window + 1))
        else:
            after = self._segments_of(epoch + 1, self.window_order(epoch + 1).extents(0))
        return [*found, *(segment for segment in after if segment not in found)]

    def segments_of_window(self, window: int) -> list[int]:
        """The segments that a window of the first epoch needs."""
        return self._segments_of(0, self.window_order(0).extents(window))

    def window_of(self, draw: int) -> tuple[int, int]:
        """Epoch and window of a draw."""
        epoch = self.epoch_of(draw)
        return epoch, self.window_order(epoch).window_of(draw - self.epoch_start(epoch))

    def _segments_of(self, epoch: int, extents: Sequence[Extent]) -> list[int]:
        found: list[int] = []
        for extent in extents:
            documents = self.plan(epoch).spans(np.arange(extent.first, extent.stop)).documents
            found += [s for s in np.unique(self.store.segment_of(documents)).tolist() if s not in found]
        return found

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


def plan_key(seed: int, source: str, epoch: int) -> int:
    """The key by which a source is packed in an epoch, where each is packed anew."""
    return key_of("plan", seed, source, epoch)
