"""Planned rows for Grain: a source with random access, in the order in which the loader would hand them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from .batch import named_arrays
from .loader import Loader

FIELDS = ("ids", "labels", "weights", "position_ids", "document_ids")


class RowSource:
    """`grain.MapDataset.source(RowSource(loader, num_steps=1000)).batch(16)`: row i of the run at index i.

    Rows are mixed, shuffled and packed already, so Grain has only to slice, batch and hand them on; its state is then
    the number of rows read. A row is a dictionary of arrays of `seq_len`: ids, labels, weights, position_ids and
    document_ids (from 0 in each row, -1 on padding), extra arrays as `extras.NAME`, with `source` and `row` as numbers.
    Every rank asks for rows of the whole run, whatever rank the loader has; Grain's own slicing deals them out. Threads
    of Grain may read it, its worker processes may not.
    """

    def __init__(self, loader: Loader, num_steps: int) -> None:
        end = loader.end
        if num_steps < 1 or (end is not None and num_steps > end):
            enough = "" if end is None else f"; the sources suffice for {end}"
            raise RecipeError(
                f"RowSource: {num_steps} steps{enough}", "`num_steps` says how many steps of rows there are."
            )
        if loader.settings.packing.method == "one":
            raise RecipeError(
                'RowSource: the rows of `Packing("one")` differ in length',
                "Use another packing, or read the loader itself.",
            )
        self._loader = loader
        self._num_rows = loader.first_row(num_steps)
        self._name = f"RowSource({loader.fingerprint}, rows={self._num_rows})"

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: int) -> Mapping[str, npt.NDArray[Any]]:
        if not 0 <= index < self._num_rows:
            raise IndexError(f"row {index} of {self._num_rows}")
        batch = self._loader.row(int(index))
        found = {name: array[0] for name, array in named_arrays(batch, FIELDS).items()}
        return {**found, "source": batch.source_ids[0], "row": np.int64(index)}

    def __repr__(self) -> str:
        """Grain compares it when a checkpoint is loaded: other data, settings or weights are another source."""
        return self._name

    def __reduce__(self) -> NoReturn:
        raise RecipeError(
            "RowSource cannot be sent to worker processes of Grain",
            "Read it by threads: `to_iter_dataset(ReadOptions(…))`.",
        )
