from __future__ import annotations

import itertools
import random
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Dedup, Import, RecipeError, Rows, Session, Take
from stillhouse.curate._minhash import BandFiles, Bands
from stillhouse.curate._shingles import mixed
from stillhouse.text.ngrams import ngrams, words

WORDS = [f"w{number:03d}" for number in range(300)]


def table(*inputs: str | None) -> Import:
    return Import(data=[{"input": text, "output": str(n)} for n, text in enumerate(inputs)], require=("output",))


def outputs(rows: Rows) -> list[str]:
    return [row["output"] for row in rows]


def sentence(length: int, seed: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def changed(text: list[str], *places: int) -> list[str]:
    return [f"other{place}" if place in places else word for place, word in enumerate(text)]


def jaccard(left: str, right: str, size: int = 3) -> float:
    """The definition, with sets of texts: what the hashed sets are held against."""
    first, second = ngrams(left, size) or {""}, ngrams(right, size) or {""}
    return len(first & second) / len(first | second)


def test_the_first_of_equal_rows_stays_and_is_named(session: Session) -> None:
    rows = table("two lattes please", "a chai", "Two  lattes, please!", "two lattes please")
    made = session.run(Dedup(rows=rows))
    assert outputs(made) == ["0", "1"]
    kept = [row["_id"] for row in made]
    assert kept == [row["_id"] for row in session.run(Take(rows=rows, num=2))]
    assert [(row["reason"], row["detail"], row["row"]) for row in made.dropped()] == [
        ("duplicate", f"of {kept[0]}", '{"input":"Two  lattes, please!","output":"2"}'),
        ("duplicate", f"of {kept[0]}", '{"input":"two lattes please","output":"3"}'),
    ]


def test_a_near_duplicate_goes_and_its_score_is_told(session: Session) -> None:
    base = sentence(60, 1)
    near, far = changed(base, 30), changed(base, 5, 15, 25, 35, 45, 55)
    made = session.run(Dedup(rows=table(*[" ".join(text) for text in (base, near, far)])))
    assert outputs(made) == ["0", "2"]
    score = jaccard(" ".join(base), " ".join(near))
    (dropped,) = made.dropped()
    assert dropped["reason"] == "near-duplicate"
    assert dropped["detail"] == f"of {made.head(1)[0]['_id']} ({score:.2f} of the n-grams shared)"


def test_a_lower_threshold_takes_more(session: Session) -> None:
    base = sentence(60, 1)
    rows = table(" ".join(base), " ".join(changed(base, 5, 15, 25, 35, 45)))
    assert [len(session.run(Dedup(rows=rows, threshold=threshold))) for threshold in (0.5, 0.8)] == [1, 2]


def test_a_chain_of_small_changes_does_not_carry_away_its_far_end(session: Session) -> None:
    chain = [sentence(60, 1)]
    for place in range(0, 60, 4):
        chain.append(changed(chain[-1], place))
    texts = [" ".join(text) for text in chain]
    kept = [int(name) for name in outputs(session.run(Dedup(rows=table(*texts))))]
    for number, text in enumerate(texts):
        nearest = max(jaccard(text, texts[other]) for other in kept if other <= number)
        assert (number in kept) == (nearest == 1)
        assert nearest >= 0.8
    assert 2 < len(kept) < len(texts)


def test_exact_only_spares_what_differs_in_one_character(session: Session) -> None:
    rows = table("two lattes", "two lattes ", "Two lattes", "two lattes")
    assert outputs(session.run(Dedup(rows=rows, threshold=None))) == ["0", "1", "2"]


def test_characters_serve_languages_without_spaces(session: Session) -> None:
    rows = table(
        "今日は天気がとても良いので散歩に行きましょう",
        "今日は天気がとても良いので散歩に行きました",
        "明日は雨が降るでしょう",
    )
    assert outputs(session.run(Dedup(rows=rows, threshold=0.6, unit="characters", ngram=3))) == ["0", "2"]
    assert outputs(session.run(Dedup(rows=rows, threshold=0.6))) == ["0", "1", "2"]


def test_several_columns_count_as_one_text(session: Session) -> None:
    rows = Import(data=[{"input": "a", "output": output} for output in ("x", "y", "x")])
    assert outputs(session.run(Dedup(rows=rows))) == ["x"]
    assert outputs(session.run(Dedup(rows=rows, columns=("input", "output")))) == ["x", "y"]


def test_conversations_and_missing_values_can_be_compared(session: Session) -> None:
    talk = [{"role": "user", "content": "two lattes and a chai please"}]
    rows = Import(data=[{"messages": talk}, {"messages": talk}, {"messages": None}, {"messages": None}], require=())
    assert len(session.run(Dedup(rows=rows, columns=("messages",)))) == 2


def test_a_missing_column_is_told_with_those_that_are_there(session: Session) -> None:
    with pytest.raises(RecipeError, match="Dedup: there is no column `text` to compare"):
        session.run(Dedup(rows=table("a"), columns=("text",)))


def test_an_empty_table_stays_empty(session: Session) -> None:
    made = session.run(Dedup(rows=Take(rows=table("a"), num=0)))
    assert len(made) == 0
    assert made.columns == ["input", "output"]


def planted(num_bases: int, seed: int = 0) -> list[str]:
    """Texts of 20 to 60 words; every second one is a copy of the one before with one word changed."""
    made: list[str] = []
    for number in range(num_bases):
        base = sentence(random.Random(seed + number).randint(20, 60), seed * 1000 + number)
        made += [" ".join(base), " ".join(changed(base, len(base) // 2))]
    return made


def test_nearly_all_planted_pairs_are_found_over_many_batches(session: Session) -> None:
    texts = planted(6000)  # more than one batch of 8192
    made = session.run(Dedup(rows=table(*texts)))
    pairs = [
        (first, second) for first, second in zip(texts[::2], texts[1::2], strict=True) if jaccard(first, second) >= 0.8
    ]
    assert len(pairs) > 4000
    kept = {row["input"] for row in made}
    assert sum(second in kept for _, second in pairs) <= 0.005 * len(pairs)
    assert all(first in kept for first in texts[::2])


def test_nothing_is_dropped_that_is_not_alike(session: Session) -> None:
    texts = planted(300)
    made = session.run(Dedup(rows=table(*texts), threshold=0.9))
    by_id = {row["_id"]: row["input"] for row in session.run(table(*texts))}
    dropped = list(made.dropped())
    assert dropped
    for row in dropped:
        other = row["detail"].split(" ")[1]
        assert jaccard(by_id[row["_id"]], by_id[other]) >= 0.9


short = st.lists(st.sampled_from(["two", "lattes", "a", "chai", "please", "Two,", ""]), max_size=6).map(" ".join)


@given(st.lists(short, min_size=1, max_size=12), st.sampled_from([0.3, 0.6, 0.8, 1.0, None]))
def test_dedup_of_its_own_result_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], threshold: float | None
) -> None:
    with Session(tmp_path_factory.mktemp("twice"), progress=False, track=False) as session:
        once = Dedup(rows=table(*texts), threshold=threshold, ngram=2)
        first, second = session.run(once), session.run(Dedup(rows=once, threshold=threshold, ngram=2))
        assert [row["_id"] for row in first] == [row["_id"] for row in second]
        assert len(first) + len(list(first.dropped())) == len(texts)


@given(st.lists(short, min_size=1, max_size=12))
def test_all_and_only_rows_alike_to_an_earlier_kept_one_go(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    kept: list[int] = []
    for number, text in enumerate(texts):
        if all(jaccard(text, texts[other], 2) < 1.0 for other in kept):
            kept.append(number)
    with Session(tmp_path_factory.mktemp("naive"), progress=False, track=False) as session:
        made = session.run(Dedup(rows=table(*texts), threshold=1.0, ngram=2))
    assert outputs(made) == [str(number) for number in kept]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    bands = Bands.finding(threshold)
    assert bands.num * bands.width <= 128
    assert 1 - (1 - threshold**bands.width) ** bands.num >= 0.995 - 1e-12


@pytest.mark.parametrize("distinct", [1, 40, 10**9])
def test_rows_meet_where_they_share_the_value_of_a_band(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distinct: int
) -> None:
    monkeypatch.setattr("stillhouse.curate._minhash.PIECE_ROWS", 30)
    values = mixed(np.random.default_rng(0).integers(distinct, size=(100, 3)).astype(np.uint64))
    files = BandFiles(tmp_path, 3)
    for start in range(0, 100, 37):
        files.add(values[start : start + 37])
    meetings = files.meetings()
    groups = meetings.groups(0, 100)
    names: set[tuple[int, int]] = set()
    for band in range(3):
        often = Counter(values[:, band].tolist())
        shared = [often[value] > 1 for value in values[:, band].tolist()]
        assert (groups[band] >= 0).tolist() == shared
        names |= set(zip(groups[band][shared].tolist(), values[shared, band].tolist(), strict=True))
    assert len(names) == len({group for group, _ in names}) == meetings.num_groups
    assert sorted(group for group, _ in names) == list(range(meetings.num_groups))
    assert meetings.flagged.tolist() == (groups >= 0).any(axis=0).tolist()
    assert (meetings.groups(29, 61) == groups[:, 29:61]).all()


def test_words_are_what_the_rest_of_the_project_calls_words() -> None:
    from stillhouse.curate._shingles import folded

    texts = ["Two  Large, lattes — to go!", "", "naïve ÉCOLE", "日本 語", "a1-b2", "snake_case é_x", " x "]
    assert [text.split() for text in folded(texts).to_pylist()] == [words(text) for text in texts]


@given(texts=st.lists(st.text("aB1 -+$/#.,'\n€−😀é日\u0301", max_size=12), max_size=6))
def test_symbols_and_minus_signs_are_words_however_a_text_is_written(texts: list[str]) -> None:
    from stillhouse.curate._shingles import folded

    normal = [unicodedata.normalize("NFKC", text).replace("\u0301", "") for text in texts]
    assert folded(normal).to_pylist() == [" ".join(words(text)).replace("−", "-") for text in normal]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 + 7", "12 - 7"),
        ("12 * 7", "12 / 7"),
        ("-5 degrees", "5 degrees"),
        ("$5 for a tea", "€5 for a tea"),
        ("C++ dev", "C dev"),
        ("C# dev", "C dev"),
        ("good 😀", "good 😡"),
        ("a < b", "a > b"),
    ],
)
def test_texts_that_differ_in_a_symbol_are_not_the_same(session: Session, one: str, other: str) -> None:
    assert len(session.run(Dedup(rows=table(one, other)))) == 2
    assert len(session.run(Dedup(rows=table(one, f" {one.upper()}!")))) == 1


def test_the_number_of_rows_in_a_batch_changes_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planted(50)
    whole = outputs(session.run(Dedup(rows=table(*texts))))
    monkeypatch.setattr("stillhouse.curate._texts.BATCH_ROWS", 7)
    with Session(session.folder / "other", progress=False, track=False) as other:
        assert outputs(other.run(Dedup(rows=table(*texts)))) == whole


@given(st.lists(st.text("ab +-1é.", max_size=40), min_size=1, max_size=6))
def test_words_hash_alike_where_they_are_the_same_and_only_there(texts: list[str]) -> None:
    from stillhouse.curate._shingles import folded, units_of

    found = units_of(texts, "words")
    split = [text.split() for text in folded(texts).to_pylist()]
    assert found.offsets.tolist() == [0, *itertools.accumulate(map(len, split))]
    by_word = dict(zip(itertools.chain(*split), found.codes_U.tolist(), strict=True))
    assert [by_word[word] for word in itertools.chain(*split)] == found.codes_U.tolist()
    assert len(set(by_word.values())) == len(by_word)
