"""Training on several sources: it is hashed by its parts, resumes to the bit, and says what it saw of each source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.errors import Interrupted, RecipeError
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.models.pretrained import Pretrained
from stillhouse.rows.import_ import Import
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.tokenize import Tokenize
from stillhouse.train.finetune import Finetune
from tests.train.small import contents, conversations, history, options, recipe, train, train_until


def mixed(base: Path, **changes: Any) -> Finetune:
    notes = Import(data=tuple({"text": f"note {number} on tea"} for number in range(20)), require=())
    text = Tokenize(rows=notes, tokenizer=Pretrained(name=str(base)), text="text")
    fields = {
        "rows": None,
        "tokens": Mixture({"chats": (conversations(0, 20), 0.7), "notes": (text, 0.3)}),
        "held_out": Mixture({"chats": conversations(40, 44), "more": conversations(44, 50)}),
        "steps": 6,
        **changes,
    }
    return recipe(base, **fields)


@pytest.mark.usefixtures("in_process")
def test_a_mixture_trains_resumes_to_the_bit_and_accounts_for_its_sources(tmp_path: Path, dropping_base: Path) -> None:
    step = mixed(dropping_base)
    whole = train(tmp_path / "whole", step)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, 4)
    assert contents(train(tmp_path / "broken", step)) == contents(whole)

    training = json.loads((whole.path / "training.json").read_text())
    assert isinstance(step.tokens, Mixture)
    with Session(tmp_path / "whole", options=options(), track=False, progress=False) as session:
        loader = get_loader(step.tokens, seq_len=64, batch_size=3, session=session)
    seen: dict[str, int] = {"chats": 0, "notes": 0}
    for _ in range(6):
        for name, count in next(loader).tokens_by_source().items():
            seen[name] += count
    assert {name: entry["tokens"] for name, entry in training["sources"].items()} == seen
    assert all(seen.values())
    assert sum(seen.values()) == training["tokens"]
    assert training["loader"]["log"] == loader.state_dict()["log"]
    assert training["loader"]["sources"] == {name: one["fingerprint"] for name, one in training["sources"].items()}


@pytest.mark.usefixtures("in_process")
def test_the_held_out_loss_is_told_source_by_source(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path, mixed(base, steps=1))
    first = history(model)[0]
    low, high = sorted((first["eval_loss_chats"], first["eval_loss_more"]))
    assert low < first["eval_loss"] < high


def test_a_mixture_is_known_by_its_parts(base: Path) -> None:
    step = mixed(base)
    assert isinstance(step.tokens, Mixture)
    a, b = step.tokens.sources["chats"], step.tokens.sources["notes"]
    assert mixed(base).structure == step.structure
    keys = {
        mixed(base, tokens=Mixture(sources)).structure
        for sources in (
            {"chats": (a, 0.7), "notes": (b, 0.3)},
            {"chats": (a, 0.6), "notes": (b, 0.4)},
            {"chats": a, "notes": b},
            {"notes": (b, 0.3), "chats": (a, 0.7)},
            {"chats": (b, 0.7), "notes": (a, 0.3)},
        )
    }
    assert len(keys) == 5
    assert step.structure in keys
    again = from_table(to_table(step))
    assert (again.recipe_key, again) == (step.recipe_key, step)
    assert {a, b} <= set(step.inputs())


def test_a_source_that_no_step_makes_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the source `web` of `tokens`.*expected a step that makes"):
        mixed(base, tokens=Mixture({"web": str(tmp_path)}))
