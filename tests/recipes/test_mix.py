"""Named mixes: found by name, checked like recipes, split so that nothing held out, nor what is like it, is learnt."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.recipes.mix import Mix, find_mix, mix, mix_files
from stillhouse.recipes.mix_rows import sst2_conversation
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.source import Source
from stillhouse.tokens.tokenize import Tokenize
from tests.models.tiny import tiny_tokenizer

WORDS = [
    f"{a}{b}" for a in ("ba", "ko", "li", "mu", "ne", "po", "ra", "si") for b in ("ta", "lo", "mi", "ru", "den", "kas")
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sentence(number: int) -> str:
    """Twelve words that no other number shares three in a row of, but by chance."""
    return " ".join(random.Random(number).choices(WORDS, k=12))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with near-duplicates within and across: 60 pages, 20 of them twice; 40 programs, 10 like pages."""
    folder = tmp_path_factory.mktemp("mix")
    tiny_tokenizer(folder / "tokenizer")
    pages = [sentence(number) for number in range(60)]
    near = [f"{text} again" for text in pages[:20]]
    programs = [f"{text} code" for text in pages[30:40]] + [sentence(number) for number in range(100, 130)]
    write_rows(folder / "web.jsonl", [{"text": text} for text in [*pages, *near]])
    write_rows(folder / "code.jsonl", [{"content": text} for text in programs])
    (folder / "small.yaml").write_text(
        """\
description: two files
tokenizer: tokenizer
sources:
  web: {path: web.jsonl, text: text, weight: 0.7}
  code: {path: code.jsonl, text: content, weight: 0.3, held_out: 6}
held_out: 0.2
probes:
  pages: {sources: web, rows: 5}
seq_len: 96
batch_size: 4
""",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def session(place: Path) -> Any:
    with Session(place / "out", track=False, progress=False) as opened:
        yield opened


def small(place: Path, **fields: Any) -> Mix:
    return mix(place / "small.yaml", **fields)  # the folder of its tokenizer counts from the file's, as its rows do


def texts(session: Session, mixture: Mixture) -> dict[str, dict[str, str]]:
    """Of each source: row id → text."""
    found = {}
    for name, step in mixture.sources.items():
        assert isinstance(step, Tokenize)
        column = (step.text or ("",))[0]
        found[name] = {row["_id"]: row[column] for row in session.run(step.rows)}
    return found


def alike(left: str, right: str) -> bool:
    """By the definition: Jaccard of three-word shingles."""
    a, b = (
        {tuple(words[at : at + 3]) for at in range(len(words) - 2)}
        for words in (left.lower().split(), right.lower().split())
    )
    return len(a & b) / len(a | b) >= 0.6


def test_what_is_held_out_and_what_is_like_it_never_trains(place: Path, session: Session) -> None:
    found = small(place)
    assert found.testing is not None
    training, testing = texts(session, found.training), texts(session, found.testing)
    assert {name: len(rows) for name, rows in testing.items()} == {"web": 16, "code": 6}
    assert {name: len(rows) for name, rows in training.items()} == {"web": 64, "code": 34}
    learnt = [text for rows in training.values() for text in rows.values()]
    for rows in testing.values():
        for text in rows.values():
            assert not any(alike(text, other) for other in learnt), text
    loader = found.loader(session=session)
    held = {row_id for rows in testing.values() for row_id in rows}
    seen = {row.row_id for step in range(40) for row in loader.rows_at_step(step)}
    assert held.isdisjoint(seen)
    assert seen == {row_id for rows in training.values() for row_id in rows}
    judged = {
        name: {row_id for batch in loader.once() for row_id in batch.row_ids if row_id}
        for name, loader in found.testing_loaders(session=session).items()
    }
    assert judged == {name: set(rows) for name, rows in testing.items()}
    (probe,) = found.probe_sets.values()
    assert len(texts(session, probe)["web"]) == 5
    assert texts(session, probe)["web"].items() <= testing["web"].items()


def test_appended_rows_keep_a_row_on_its_side_but_for_what_the_share_and_new_likenesses_move(
    place: Path, session: Session, tmp_path: Path
) -> None:
    found = small(place)
    assert found.testing is not None
    before = set(texts(session, found.testing)["web"])
    rows = (place / "web.jsonl").read_text() + "".join(
        json.dumps({"text": sentence(n)}) + "\n" for n in range(200, 220)
    )
    (tmp_path / "web.jsonl").write_text(rows)
    longer = Source(path=tmp_path / "web.jsonl", text="text")
    grown = found.replace(sources={**found.sources, "web": {"read": longer, "weight": 0.7}})
    after = texts(session, grown.testing)["web"]
    assert len(after) == 20
    assert len(before & set(after)) >= 0.7 * len(before)


def test_options_weights_and_rails_reach_the_loader(place: Path, session: Session) -> None:
    found = small(
        place, weights={"web": 0.5}, floors={"code": 0.4}, seq_len=32, packing="concat", probes={}, held_out=0
    )
    assert found.training.weights == {"web": 0.5, "code": 0.3}
    assert found.training.floors == {"code": 0.4}
    assert found.options == {"seq_len": 32, "batch_size": 4, "packing": Packing("concat"), "seed": 0}
    loader = found.loader(session=session, batch_size=2)
    assert next(loader).ids.shape == (2, 32)
    assert loader.weights["code"] == pytest.approx(0.4, abs=1e-6)


def test_a_mix_is_found_by_name_and_changed_from_the_command_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"fineweb", "mixed_pretrain", "downstream"} <= {file.stem for file in mix_files()}
    shipped = mix("fineweb")
    assert shipped.training.sources.keys() == {"fineweb_edu"}
    (tmp_path / "mixes").mkdir()
    (tmp_path / "mixes" / "fineweb.yaml").write_text("sources: {own: {path: a.jsonl, text: text}}\n")
    assert list(mix("fineweb").sources) == ["own"]
    assert find_mix("fineweb") == Path("mixes/fineweb.yaml")
    changed = mix(place / "small.yaml", ["weights.web=0.5", "sources.code.held_out=3", "seed=7"])
    assert (changed.weights, changed.held_out_of("code"), changed.seed) == ({"web": 0.5}, 3, 7)


@pytest.mark.parametrize("name", ["fineweb", "mixed_pretrain", "downstream"])
def test_the_shipped_mixes_are_whole(name: str) -> None:
    found = mix(name)
    assert found.testing is not None
    assert found.testing.sources.keys() == found.sources.keys()
    assert found.probe_sets.keys() == found.probes.keys()
    assert found.description
    assert mix(name, seed=1).training != found.training


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {a: {path: a.jsonl, text: t, wieght: 1}}", r"x.yaml:1: .*`wieght` is not a field.*\n.*`weight`"),
        (
            "sources: {a: {path: a.jsonl, text: t}}\nseq_length: 9",
            r"x.yaml:2: `seq_length` is not a key.*\n.*`seq_len`",
        ),
        ("sources: {a: {path: a.jsonl}}", r"x.yaml:1: .*either `text` or `template`"),
        ("sources: {a: {path: a.jsonl, text: t}}\nprobes: {p: a}", r"x.yaml:2: .*needs held-out rows of `a`"),
        ("sources: {a: {path: a.jsonl, text: t}}\nweights: {b: 1}", r"x.yaml:2: .*no source is called `b`"),
        (
            "sources: {a: {path: a.jsonl, text: t, weight: 1}}\npolicy: {uses: tokens.natural}",
            r"x.yaml:2: .*a policy and weights \(of `a`\).*Leave out one",
        ),
        ("sources: {a: {path: a.jsonl, text: t, weight: 1}, b: {path: b.jsonl, text: t}}", r"x.yaml:1: .*`b` has no w"),
        ("sources: {a: {path: a.jsonl, text: t}}\nfloors: {c: 0.1}", r"x.yaml:2: .*no source is called `c`"),
        (
            "sources: {a: {path: a.jsonl, text: t}}\npacking: bestfit",
            r"x.yaml:2: .*`method`: input should be 'best_fit'",
        ),
        ("seq_len: 4", r"x.yaml:1: a mix is a mapping with `sources`"),
        ("sources: {a: 3}", r"x.yaml:1: `sources.a` is 3, expected a mapping"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text + "\n")
    with pytest.raises(RecipeError, match=re.compile(message, re.DOTALL)):
        mix(tmp_path / "x.yaml")


def test_an_unknown_name_suggests_one() -> None:
    with pytest.raises(RecipeError, match=r"no mix `finewb`\n.*`fineweb`"):
        mix("finewb")


def test_sentiments_have_names() -> None:
    assert sst2_conversation({"sentence": "so good ", "label": 1})["output"] == "positive"
