from __future__ import annotations

import pickle
from pathlib import Path

import grain
import numpy as np
import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.tokens.grain_source import FIELDS, RowSource
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
from tests.tokens.stores import make_store


def loader_of(folder: Path, weights: tuple[float, float] = (0.7, 0.3), packing: str = "best_fit") -> Loader:
    names = ("web", "code")
    for name, count in zip(names, (40, 25), strict=True):
        if not (folder / name).exists():
            make_store(folder / name, [1 + 7 * number % 16 for number in range(count)], name=name)
    mixture = Mixture({name: (folder / name, weight) for name, weight in zip(names, weights, strict=True)})
    return get_loader(mixture, seq_len=16, batch_size=4, packing=Packing(packing), seed=3)  # type: ignore[arg-type]


def read_by_grain(source: RowSource) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(grain.MapDataset.source(source).batch(4).to_iter_dataset(options))


def test_grain_hands_out_what_the_loader_would_and_resumes_by_its_own_state(tmp_path: Path) -> None:
    loader = loader_of(tmp_path)
    source = RowSource(loader_of(tmp_path), num_steps=9)
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    assert len(source) == 36
    iterator = read_by_grain(source)
    for step in range(9):
        if step == 5:
            state = iterator.get_state()
            iterator = read_by_grain(RowSource(loader_of(tmp_path), num_steps=9))
            iterator.set_state(state)
        batch, read = next(loader), next(iterator)
        for name in ("ids", "labels", "weights", "position_ids"):
            assert np.array_equal(read[name], getattr(batch, name))
        assert np.array_equal(read["document_ids"] >= 0, batch.document_ids >= 0)
        assert read["row"].tolist() == list(range(step * 4, step * 4 + 4))
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_row_is_found_at_any_index_in_any_order(tmp_path: Path) -> None:
    source, loader = RowSource(loader_of(tmp_path), num_steps=7), loader_of(tmp_path)
    for index in (27, 0, 13, 26):
        row, batch = source[index], loader.batch(index // 4)
        assert set(row) == {*FIELDS, "source", "row"}
        assert np.array_equal(row["ids"], batch.ids[index % 4])
        assert batch.source_names[int(row["source"])] in ("web", "code")
    with pytest.raises(IndexError, match="row 28 of 28"):
        source[28]


def test_sources_of_other_rows_have_other_names(tmp_path: Path) -> None:
    names = {repr(RowSource(loader_of(tmp_path, weights), 5)) for weights in ((0.7, 0.3), (0.6, 0.4))}
    assert len(names) == 2
    assert repr(RowSource(loader_of(tmp_path), 5)) in names


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    loader = loader_of(tmp_path)
    assert loader.end is not None
    with pytest.raises(RecipeError, match=f"suffice for {loader.end}"):
        RowSource(loader, loader.end + 1)
    with pytest.raises(RecipeError, match="differ in length"):
        RowSource(loader_of(tmp_path, packing="one"), 3)
    with pytest.raises(RecipeError, match="worker processes"):
        pickle.dumps(RowSource(loader, 3))
