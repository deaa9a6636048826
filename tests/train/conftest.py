"""Models to start from, and trainings in this process where a process of their own is not what is tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.train.finetune import Finetune
from tests.models.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), tokenizer_folder)


@pytest.fixture(scope="session")
def dropping_base(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A model with dropout, which draws random numbers at every update."""
    return tiny_model(tmp_path_factory.mktemp("base"), tokenizer_folder, attention_dropout=0.2)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds that a new process takes to import torch."""
    monkeypatch.setattr(Finetune, "isolated", False)
