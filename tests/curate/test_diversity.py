from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Dedup, Import, RecipeError, Session, Shuffle, Take
from stillhouse.curate._diversity import distinct, ngram_counts, self_bleu, spread, vector_measures, vendi
from stillhouse.curate._vectors import normalised
from stillhouse.curate.diversity import HELP, Diversity, diversity

TEXTS = [
    "two lattes to go please",
    "two lattes and a bagel to go please",
    "a chai please",
    "a chai",
    "two lattes to go please",
    "half a dozen brownies for my sister and two lattes",
    "go",
]


def naive_bleu(own: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    """BLEU-4 with uniform weights as Papineni et al. (2002) write it, orders longer than the text left out."""
    logs = []
    for size in range(1, min(4, len(own)) + 1):

        def counts(text: Sequence[str], size: int = size) -> Counter[tuple[str, ...]]:
            return Counter(tuple(text[start : start + size]) for start in range(len(text) - size + 1))

        mine = counts(own)
        most = {run: max((counts(other)[run] for other in others), default=0) for run in mine}
        matched = sum(min(count, most[run]) for run, count in mine.items())
        if matched == 0:
            return 0.0
        logs.append(math.log(matched / sum(mine.values())))
    closest = min((len(other) for other in others), key=lambda length: (abs(length - len(own)), length))
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - closest / len(own)))


def test_self_bleu_is_what_sacrebleu_says() -> None:
    # BLEU(effective_order=True, smooth_method="none", tokenize="none") of sacrebleu 2.6, each text against the others.
    assert self_bleu([text.split() for text in TEXTS]) == pytest.approx(0.4811256344530634)
    draw = random.Random(1)
    many = [draw.choices("abcdefg", k=draw.randint(1, 12)) for _ in range(30)]
    assert self_bleu(many) == pytest.approx(0.43810751370161044)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), min_size=2, max_size=6))
def test_one_pass_over_the_ngrams_gives_what_all_pairs_give(texts: list[list[str]]) -> None:
    each = [naive_bleu(own, [*texts[:place], *texts[place + 1 :]]) for place, own in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(sum(each) / len(each))


def test_distinct_counts_ngrams_that_lie_in_one_text() -> None:
    texts = [["a", "b", "a"], ["b", "a"]]
    assert distinct(ngram_counts(texts, 1), 100) == pytest.approx(2 / 5)
    assert distinct(ngram_counts(texts, 2), 100) == pytest.approx(2 / 3)  # ab, ba, ba; not the a b between the texts
    assert distinct(ngram_counts([["a"]], 2), 100) is None


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.integers(1, 7))
def test_distinct_of_fewer_is_the_mean_over_all_ways_to_draw_them(words: list[str], most: int) -> None:
    ways = list(combinations(words, min(most, len(words))))
    mean = sum(len(set(way)) / len(way) for way in ways) / len(ways)
    assert distinct(ngram_counts([words], 1), most) == pytest.approx(mean)


def test_vendi_is_what_its_authors_compute() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vendi(vectors.astype(np.float32)) == pytest.approx(4.082011869154315, rel=1e-5)  # vendi-score 0.0.3
    assert vendi(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    assert vendi(np.ones((7, 1), dtype=np.float32)) == pytest.approx(1)
    assert vendi(vectors[:3].astype(np.float32)) <= 3


@given(st.integers(0, 1000), st.integers(2, 12))
def test_spread_is_the_mean_over_all_pairs(seed: int, num: int) -> None:
    vectors = normalised(np.random.default_rng(seed).normal(size=(num, 3)).astype(np.float32))
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(num) for j in range(num) if i != j]
    assert spread(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)


def test_clusters_of_the_first_table_are_reached_or_not() -> None:
    centres = np.eye(4, dtype=np.float32)
    found = vector_measures(np.repeat(centres[:2], [3, 1], axis=0), centres)
    assert found["clusters reached"] == 0.5
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["evenness"] == pytest.approx(math.exp(entropy) / 4)
    assert vector_measures(np.zeros((2, 4), dtype=np.float32), centres) == {}


def test_tables_are_measured_side_by_side(session: Session) -> None:
    vectors = np.eye(7)[[0, 0, 1, 1, 0, 2, 3]]
    rows = Import(
        data=[{"input": text, "vector": vector.tolist()} for text, vector in zip(TEXTS, vectors, strict=True)],
        require=(),
    )
    step = Diversity(of={"before": rows, "after": Dedup(rows=rows)}, columns="input", vectors="vector", clusters=3)
    report = session.run(step)
    before, after = (report.value["tables"][name] for name in ("before", "after"))
    assert (before["rows"], after["rows"]) == (7, 6)
    assert before["distinct texts"] == pytest.approx(6 / 7)
    assert after["distinct texts"] == 1
    assert after["self-BLEU"] < before["self-BLEU"]
    assert after["distinct 2"] > before["distinct 2"]
    assert after["Vendi"] > before["Vendi"]
    assert set(before) == set(HELP)
    lines = str(report).splitlines()
    assert lines[0].split() == ["before", "after"]
    assert any(line.startswith("self-BLEU") and line.endswith("more is more alike") for line in lines)


def test_the_sample_is_the_same_whatever_the_order_of_the_rows(session: Session) -> None:
    rows = Import(data=[{"input": f"{n} lattes {n % 7} times"} for n in range(300)], require=())
    one = diversity({"a": session.run(rows)}, ("input",), sample=50)["a"]
    other = diversity({"a": session.run(Shuffle(rows=rows))}, ("input",), sample=50)["a"]
    assert one == other
    assert one["looked at"] == 50
    assert one["rows"] == 300


def test_nothing_and_mistakes(session: Session) -> None:
    rows = Import(data=[{"input": "a"}, {"input": ""}], require=())
    none = session.run(Diversity(of={"none": Take(rows=rows, num=0)}, columns="input")).value["tables"]["none"]
    assert none == {"rows": 0, "looked at": 0}
    one = session.run(Diversity(of={"one": rows}, columns="input")).value["tables"]["one"]
    assert (one["looked at"], one["distinct 2"], one["self-BLEU"]) == (1, None, None)
    with pytest.raises(RecipeError, match="`clusters` need `vectors`"):
        Diversity(of={"one": rows}, columns="input", clusters=3)
    with pytest.raises(RecipeError, match="there is no column `text`"):
        session.run(Diversity(of={"one": rows}, columns="text"))
    with pytest.raises(RecipeError, match="not vectors"):
        session.run(Diversity(of={"one": rows}, columns="input", vectors="input"))
