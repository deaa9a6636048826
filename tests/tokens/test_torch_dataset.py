from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stillhouse.core.errors import RecipeError
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.torch_dataset import FIELDS, LoaderDataset
from tests.tokens.stores import make_store


def loader_of(folder: Path) -> Loader:
    store = folder if folder.exists() else make_store(folder, [3, 9, 5, 7, 2, 8] * 4).folder
    return get_loader(store, seq_len=16, batch_size=2)


def test_tensors_hold_what_the_batches_hold(tmp_path: Path) -> None:
    plain = loader_of(tmp_path / "s")
    batches = list(DataLoader(LoaderDataset(loader_of(tmp_path / "s"), 7), batch_size=None))
    assert len(batches) == 7
    for tensors in batches:
        batch = next(plain)
        assert set(tensors) == set(FIELDS)
        assert all(np.array_equal(tensors[name].numpy(), getattr(batch, name)) for name in FIELDS)
        assert tensors["ids"].dtype == torch.int64
        assert tensors["weights"].dtype == torch.float32


def test_its_state_goes_on_where_it_was_taken(tmp_path: Path) -> None:
    whole = list(LoaderDataset(loader_of(tmp_path / "s"), 9))
    first = LoaderDataset(loader_of(tmp_path / "s"), 4)
    assert len(list(first)) == 4
    rest = LoaderDataset(loader_of(tmp_path / "s"), 9)
    rest.load_state_dict(first.state_dict())
    found = list(rest)
    assert len(found) == 5
    assert all(torch.equal(left["ids"], right["ids"]) for left, right in zip(found, whole[4:], strict=True))


def test_worker_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="num_workers=0"):
        list(DataLoader(LoaderDataset(loader_of(tmp_path / "s"), 2), batch_size=None, num_workers=1))


def test_a_stateful_data_loader_goes_on_where_it_was(tmp_path: Path) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    whole = list(LoaderDataset(loader_of(tmp_path / "s"), 9))
    first = StatefulDataLoader(LoaderDataset(loader_of(tmp_path / "s"), 9), batch_size=None)
    batches = iter(first)
    for _ in range(4):
        next(batches)
    rest = StatefulDataLoader(LoaderDataset(loader_of(tmp_path / "s"), 9), batch_size=None)
    rest.load_state_dict(first.state_dict())
    found = list(rest)
    assert len(found) == 5
    assert all(torch.equal(left["ids"], right["ids"]) for left, right in zip(found, whole[4:], strict=True))


def test_accelerate_takes_it_and_keeps_its_state(tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DataLoaderConfiguration

    def prepared() -> DataLoader[dict[str, torch.Tensor]]:
        accelerator = Accelerator(
            cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False, use_stateful_dataloader=True)
        )
        loader = DataLoader(LoaderDataset(loader_of(tmp_path / "s"), 9), batch_size=None)
        made: DataLoader[dict[str, torch.Tensor]] = accelerator.prepare(loader)
        return made

    whole = list(LoaderDataset(loader_of(tmp_path / "s"), 9))
    try:
        first = prepared()
        seen = []
        for batch in first:
            seen.append(batch["ids"])
            if len(seen) == 4:
                break
        rest = prepared()
        rest.load_state_dict(first.state_dict())  # type: ignore[attr-defined]
        seen += [batch["ids"] for batch in rest]
    finally:
        AcceleratorState._reset_state()
        PartialState._reset_state()
    assert len(seen) == 9
    assert all(torch.equal(left, right["ids"]) for left, right in zip(seen, whole, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is pinned for a CUDA device")
def test_tensors_are_pinned_where_there_is_a_device(tmp_path: Path) -> None:
    [batch] = LoaderDataset(loader_of(tmp_path / "s"), 1)
    assert all(tensor.is_pinned() for tensor in batch.values())
