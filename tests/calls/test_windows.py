"""How many tokens models take: by the table, by a folder's configuration, or nobody knows."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.prices import LIST_PRICES
from stillhouse.calls.windows import AS_OF, WINDOWS, window_of


def test_the_table_is_dated_and_names_models_that_have_prices() -> None:
    assert dt.date.fromisoformat(AS_OF) > dt.date(2026, 1, 1)
    assert set(WINDOWS) <= set(LIST_PRICES)
    assert len(WINDOWS) > 70


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (Ask(model="openai/gpt-4o-mini"), 128_000),
        (Ask(model="openai/gpt-4o-mini", deployment="mine"), None),  # in keys no model is named
        (Ask(model="responses/gpt-5"), 272_000),
        (Ask(model="vertex/gemini-2.5-pro"), 1_048_576),
        (Ask(model="openai/of-tomorrow"), None),
        (Ask(model="openai/gpt-4o-mini", endpoint="http://host:8000/v1"), None),
        (Ask(model="scripted:x"), None),
        (Ask(model="vllm:some/name"), None),
        (Ask(model="local:/nowhere"), None),
    ],
)
def test_a_window_is_that_of_a_model_whose_provider_serves_it(ask: Ask, expected: int | None) -> None:
    assert window_of(ask) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 512}, "max_position_embeddings": 64}, 512),
        ({"hidden_size": 8}, None),
    ],
)
def test_a_folder_says_its_own(tmp_path: Path, config: dict[str, Any], expected: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert window_of(Ask(model=f"local:{tmp_path}")) == expected
    assert window_of(Ask(model=f"vllm:{tmp_path}")) == expected
    assert window_of(Ask(model=f"local:{tmp_path}", deployment="house")) is None


def test_an_adapter_has_the_window_of_its_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"max_position_embeddings": 77}')
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert window_of(Ask(model="x/y"), tmp_path) == 77
