from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import FromScratch, Import, RecipeError, Rows, Session, Take, TrainTokenizer
from stillhouse.curate._word_model import WordModel
from stillhouse.curate.band import Band
from stillhouse.curate.length_band import LengthBand
from stillhouse.curate.perplexity import Perplexity


def names(rows: Rows) -> list[str]:
    return [row["input"] for row in rows]


NUMBERS = Import(
    data=[{"input": name, "x": x} for name, x in zip("abcdef", [3, 1, None, 10, 2, 4], strict=True)], require=()
)


def test_a_band_keeps_what_lies_in_it_and_tells_the_rest(session: Session) -> None:
    made = session.run(Band(rows=NUMBERS, by="x", at_least=2, at_most=4))
    assert names(made) == ["a", "e", "f"]
    assert [(row["reason"], row["detail"]) for row in made.dropped()] == [
        ("`x` below the band", "1, bound 2"),
        ("`x` is missing", None),
        ("`x` above the band", "10, bound 4"),
    ]


def test_percentiles_are_those_of_the_column_itself(session: Session) -> None:
    made = session.run(Band(rows=NUMBERS, by="x", percentiles=(25, 75)))
    low, high = np.percentile([3, 1, 10, 2, 4], [25, 75])
    assert names(made) == [name for name, x in zip("abdef", [3, 1, 10, 2, 4], strict=True) if low <= x <= high]
    assert made.record["facts"] == {"at_least": low, "at_most": high}
    assert len(session.run(Band(rows=Take(rows=NUMBERS, num=0), by="x", percentiles=(5, 95)))) == 0


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.floats(0, 49),
    st.floats(51, 100),
)
def test_a_band_of_percentiles_keeps_about_its_share(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | None], low: float, high: float
) -> None:
    rows = Import(data=[{"input": str(place), "x": x} for place, x in enumerate(values)], require=())
    known = [x for x in values if x is not None]
    with Session(tmp_path_factory.mktemp("band"), progress=False, track=False) as session:
        kept = session.run(Band(rows=rows, by="x", percentiles=(low, high)))
        assert len(kept) + len(list(kept.dropped())) == len(values)
        if known:
            assert len(kept) >= math.floor(len(known) * (high - low) / 100) - 1
            inside = sorted(row["x"] for row in kept)
            bounds = np.percentile(known, [low, high])
            assert inside == sorted(x for x in known if bounds[0] <= x <= bounds[1])


def test_bands_that_make_no_sense_are_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="either `percentiles`"):
        Band(rows=NUMBERS, by="x")
    with pytest.raises(RecipeError, match="either `percentiles`"):
        Band(rows=NUMBERS, by="x", percentiles=(1, 2), at_least=3)
    with pytest.raises(RecipeError, match="two numbers from 0 to 100"):
        Band(rows=NUMBERS, by="x", percentiles=(50, 50))
    with pytest.raises(RecipeError, match="lets nothing pass"):
        Band(rows=NUMBERS, by="x", at_least=3, at_most=2)
    with pytest.raises(RecipeError, match="holds string, not numbers"):
        session.run(Band(rows=NUMBERS, by="input", at_least=3))
    with pytest.raises(RecipeError, match="there is no column `y`"):
        session.run(Band(rows=NUMBERS, by="y", at_least=3))


def naive(reference: list[str], text: str, order: int) -> float:
    """Witten and Bell's recursion, word by word."""
    counts: Counter[tuple[str, ...]] = Counter()
    for one in reference:
        words = one.split()
        for size in range(1, order + 1):
            counts.update(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
    vocabulary = {run[0] for run in counts if len(run) == 1}

    def p(word: str, before: tuple[str, ...]) -> float:
        lower = p(word, before[1:]) if before else 1 / (len(vocabulary) + 1)
        after = {
            run[-1]: number for run, number in counts.items() if run[:-1] == before and len(run) == len(before) + 1
        }
        total = sum(after.values())
        return (after.get(word, 0) + len(after) * lower) / (total + len(after)) if total else lower

    words = text.split()
    logs = [math.log(p(word, tuple(words[max(0, place - order + 1) : place]))) for place, word in enumerate(words)]
    return -sum(logs) / len(logs)


phrases = st.lists(st.sampled_from(["two", "lattes", "a", "chai", "please"]), min_size=1, max_size=7).map(" ".join)


@given(st.lists(phrases, min_size=1, max_size=6), phrases, st.integers(1, 4))
def test_the_word_model_agrees_with_the_recursion(reference: list[str], text: str, order: int) -> None:
    model = WordModel.counted([reference[:2], reference[2:]], order)
    texts = [text, f"{text} unknown words", ""]
    first, second, third = model.losses(texts)
    assert first == pytest.approx(naive(reference, texts[0], order))
    assert second == pytest.approx(naive(reference, texts[1], order))
    assert third is None


def test_probabilities_of_all_words_add_up_to_one() -> None:
    reference = ["two lattes please", "two chai and two lattes", "a chai"]
    model = WordModel.counted([reference], 3)
    words = [*dict.fromkeys(" ".join(reference).split()), "unheard"]
    for before in ("two", "two lattes", "never heard"):
        begun = model.losses([before])[0]
        assert begun is not None
        size = len(before.split())
        total = 0.0
        for word in words:
            loss = model.losses([f"{before} {word}"])[0]
            assert loss is not None
            total += math.exp(-(loss * (size + 1) - begun * size))
        assert total == pytest.approx(1)


def test_text_unlike_the_reference_is_more_surprising(session: Session) -> None:
    rows = Import(
        data=[
            {"input": text} for text in ("two lattes to go please", "lattes two please go to", "quartz vexes", "", None)
        ],
        require=(),
    )
    reference = Import(data=[{"text": "two lattes to go please"}, {"text": "a chai to go please"}], require=())
    scored = Perplexity(rows=rows, columns="input", reference=reference, reference_columns="text")
    values = [row["perplexity"] for row in session.run(scored)]
    assert values[0] < values[1] < values[2]
    assert values[3:] == [None, None]
    assert names(session.run(Band(rows=scored, by="perplexity", percentiles=(0, 50)))) == [
        "two lattes to go please",
        "lattes two please go to",
    ]


def test_a_model_judges_texts_as_one_would_alone(session: Session) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["two lattes to go please", "a", "a chai for my sister and a plain bagel", "", "two two two", "x" * 300]
    rows = Import(data=[{"input": text, "output": "a"} for text in texts], require=())
    tokenizer = TrainTokenizer(rows=rows, columns=("input",), vocab_size=300)
    model = FromScratch(tokenizer=tokenizer, hidden=32, layers=2, heads=2)
    made = session.run(Perplexity(rows=rows, columns="input", model=model, max_tokens=64, name="surprise"))
    folder = str(session.run(model).data)
    judge, tokens = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    for row, text in zip(made, texts, strict=True):
        ids = torch.tensor([tokens(text, add_special_tokens=False)["input_ids"][:64]])
        if ids.shape[1] < 2:
            assert row["surprise"] is None
            continue
        with torch.no_grad():
            loss = judge(input_ids=ids, labels=ids).loss.item()
        assert row["surprise"] == pytest.approx(math.exp(loss), rel=1e-4)
    short = session.run(
        LengthBand(rows=rows, columns="input", unit="tokens", at_least=2, at_most=64, tokenizer=tokenizer)
    )
    counts = [len(tokens(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert names(short) == [text for text, count in zip(texts, counts, strict=True) if 2 <= count <= 64]


def test_lengths_are_told_in_their_unit(session: Session) -> None:
    rows = Import(data=[{"input": text} for text in ("two lattes", "a", "one two three four")], require=())
    made = session.run(LengthBand(rows=rows, columns="input", unit="words", at_least=2, at_most=3))
    assert names(made) == ["two lattes"]
    assert [(row["reason"], row["detail"]) for row in made.dropped()] == [
        ("shorter than 2 words", "1"),
        ("longer than 3 words", "4"),
    ]
    assert names(session.run(LengthBand(rows=rows, columns="input", unit="characters", at_most=10))) == [
        "two lattes",
        "a",
    ]


def test_judges_and_units_that_make_no_sense_are_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="either `model` or `reference`"):
        Perplexity(rows=NUMBERS, columns="input")
    with pytest.raises(RecipeError, match="a column `x` already"):
        session.run(Perplexity(rows=NUMBERS, columns="input", reference=NUMBERS, name="x"))
    with pytest.raises(RecipeError, match="Name the `tokenizer`"):
        LengthBand(rows=NUMBERS, columns="input", unit="tokens", at_least=3)
    with pytest.raises(RecipeError, match="there is no bound"):
        LengthBand(rows=NUMBERS, columns="input", unit="words")
    with pytest.raises(RecipeError, match="there is no column `text`"):
        session.run(LengthBand(rows=NUMBERS, columns="text", unit="words", at_least=1))
