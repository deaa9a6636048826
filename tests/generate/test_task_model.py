"""`RunTaskModel`, held against transformers by hand, one text at a time in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import stillhouse as sh
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.task_model import RunTaskModel
from tests.models.tiny import WORDS
from tests.models.tiny_encoder import tiny_classifier

TEXTS = ["red cat", "give me three green birds please", "and", "two dogs " * 9, "red cat", "one two", "bird"]


def table(texts: list[Any], **columns: list[Any]) -> sh.Import:
    return sh.Import(
        data=[{"text": text, **{k: v[n] for k, v in columns.items()}} for n, text in enumerate(texts)], require=()
    )


def by_hand(folder: Path, *texts: str) -> Any:
    """The logits of one text (or pair) without a batch, in float64."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModelForSequenceClassification.from_pretrained(str(folder)).double().eval()
    with torch.no_grad():
        return model(**tokenizer(*texts, truncation=True, max_length=64, return_tensors="pt")).logits[0].numpy()


@pytest.fixture
def small(tmp_path: Path) -> Any:
    with Session(
        tmp_path / "store", progress=False, track=False, options=sh.Options(device="cpu", inference_batch=3)
    ) as session:
        yield session


def test_labels_and_scores_are_those_of_transformers(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model")
    rows = list(small.run(RunTaskModel(rows=table(TEXTS), model=str(folder), scores="all")))
    for row, text in zip(rows, TEXTS, strict=True):
        logits = by_hand(folder, text)
        shares = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-shares)
        assert row["label"] == ("bad", "fine", "good")[order[0]]
        assert row["score"] == pytest.approx(shares.max(), abs=2e-6)
        assert [own["label"] for own in row["all"]] == [("bad", "fine", "good")[place] for place in order]
        np.testing.assert_allclose([own["score"] for own in row["all"]], shares[order], atol=2e-6)
    assert rows[0] | {"_id": 0} == rows[4] | {"_id": 0}


def test_several_labels_at_once_are_a_list(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model", problem_type="multi_label_classification")
    for row, text in zip(small.run(RunTaskModel(rows=table(TEXTS), model=str(folder))), TEXTS, strict=True):
        shares = 1 / (1 + np.exp(-by_hand(folder, text)))
        names = {name for name, share in zip(("bad", "fine", "good"), shares, strict=True) if share >= 0.5}
        assert set(row["label"]) == names
        assert row["score"] == pytest.approx(shares.max(), abs=2e-6)


def test_a_single_output_is_a_number(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model", ("quality",))
    made = small.run(RunTaskModel(rows=table(TEXTS), model=str(folder), score="quality"))
    assert made.columns == ["text", "quality"]
    np.testing.assert_allclose(
        [row["quality"] for row in made], [by_hand(folder, text)[0] for text in TEXTS], atol=2e-6
    )


def test_pairs_are_told_apart(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model")
    rows = table(TEXTS, other=TEXTS[::-1])
    for row in small.run(RunTaskModel(rows=rows, model=str(folder), pair="other")):
        logits = by_hand(folder, row["text"], row["other"])
        assert row["score"] == pytest.approx((np.exp(logits) / np.exp(logits).sum()).max(), abs=2e-6)


def test_long_texts_are_cut_or_fail(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model")
    long = " ".join(WORDS[number % len(WORDS)] for number in range(100))
    rows = table(["red cat", long, None])
    made = small.run(RunTaskModel(rows=rows, model=str(folder)))
    logits = by_hand(folder, long)
    assert made.head(2)[1]["score"] == pytest.approx((np.exp(logits) / np.exp(logits).sum()).max(), abs=2e-6)
    assert [row["kind"] for row in made.failed()] == ["invalid"]
    strict = small.run(RunTaskModel(rows=table(["red cat", "dog", "bird", long]), model=str(folder), long="fail"))
    assert [row["message"] for row in strict.failed()] == ["the text has 102 tokens, the model takes 64"]


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    one, two = tiny_classifier(tmp_path / "one"), tiny_classifier(tmp_path / "two", ("no", "yes", "maybe"))
    keys = [RunTaskModel(rows=table(TEXTS), model=str(folder)).recipe_key for folder in (one, two)]
    assert keys[0] != keys[1]
    moved = tmp_path / "moved"
    one.rename(moved)
    assert RunTaskModel(rows=table(TEXTS), model=str(moved)).recipe_key == keys[0]


def test_columns_that_are_there_are_not_overwritten(tmp_path: Path, small: Session) -> None:
    folder = tiny_classifier(tmp_path / "model")
    with pytest.raises(RecipeError, match="have a column `label` already"):
        small.run(RunTaskModel(rows=table(["a"], label=["b"]), model=str(folder)))
