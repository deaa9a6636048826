"""A tokenizer and a model that the tests of this folder share; they are read, never written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), tokenizer_folder)
