from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import stillhouse as sh
from stillhouse.core.artifact import Tokens
from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens._pack import packed_note
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.pack import Pack
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.reweight import Reweight
from stillhouse.tokens.store import TokenStore
from stillhouse.tokens.tokenize import Tokenize

TEXTS = ["ab " * number for number in (1, 30, 4, 9, 2, 16, 5)]
ROWS = sh.Import(data=[{"text": text, "score": number / 4} for number, text in enumerate(TEXTS)], require=())
TOKENIZER = TrainTokenizer(rows=ROWS, columns=("text",), vocab_size=300)
TOKENS = Tokenize(rows=ROWS, tokenizer=TOKENIZER, text="text")


def made(session: sh.Session, steps: Sequence[sh.Step[Tokens]]) -> list[Tokens]:
    return [cast("Tokens", artifact) for artifact in session.run([*steps])]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("method", ["best_fit", "windows", "stream", "concat", "one"])
def test_packed_tokens_are_read_as_they_are_packed(
    session: sh.Session, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = Packing(method, too_long="split", window=5)
    tokens, packed = made(session, [TOKENS, Pack(tokens=TOKENS, seq_len=12, packing=packing, seed=3)])
    wanted = get_loader(tokens, seq_len=12, packing=packing, batch_size=2, seed=3)
    from stillhouse.tokens import _plan_files

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the plan was made again")

    monkeypatch.setattr(_plan_files, "make_plan", never)
    loader = get_loader(packed, batch_size=2)
    assert loader.settings == wanted.settings
    assert loader.sources[0].store.fingerprint == wanted.sources[0].store.fingerprint
    for batch, other in zip(loader.once(), wanted.once(), strict=True):
        assert batch.ids.tolist() == other.ids.tolist()
    assert packed.record["facts"]["num_rows"] == loader.reports()["data"].num_rows


def test_packing_copies_no_tokens_and_tells_which_rows_were_cut_or_left_out(session: sh.Session) -> None:
    tokens, split, less = made(
        session,
        [TOKENS]
        + [Pack(tokens=TOKENS, seq_len=12, packing=Packing(too_long=too_long)) for too_long in ("split", "leave_out")],
    )
    store = TokenStore(tokens.data)
    long = [number for number in range(len(store.lengths)) if store.lengths[number] > 12]
    assert len(long) == 2
    expected = [
        {"row_id": store.row_ids([number])[0], "document": number, "tokens": int(store.lengths[number])}
        for number in long
    ]
    assert lines(split.data / "split.jsonl") == expected == lines(less.data / "left_out.jsonl")
    assert lines(split.data / "left_out.jsonl") == [] == lines(less.data / "split.jsonl")
    note = json.loads((less.data / "packing.json").read_text())
    assert (note["num_left_out"], note["num_split"]) == (2, 0)
    assert note["tokens_left_out"] == int(store.lengths[long].sum())
    assert note["num_tokens"] + note["tokens_left_out"] == store.num_tokens
    name = Path("segments/00000/tokens.bin")
    assert os.path.samefile(tokens.data / name, split.data / name)
    assert (split.data / "tokenizer" / "tokenizer.json").is_file()


def test_a_long_document_is_refused_by_its_row(session: sh.Session) -> None:
    with pytest.raises(RecipeError, match=r"2 of 7 documents are longer than a row of 12 .*\(row [0-9a-f]{24}\)"):
        session.run(Pack(tokens=TOKENS, seq_len=12))


def test_a_loader_needs_a_row_length_that_the_sources_agree_on(session: sh.Session) -> None:
    tokens, one, other = made(session, [TOKENS, Pack(tokens=TOKENS, seq_len=40), Pack(tokens=TOKENS, seq_len=50)])
    with pytest.raises(RecipeError, match="no row length"):
        get_loader(tokens, batch_size=1)
    mixed = sh.Mixture({"one": one, "other": other})
    with pytest.raises(RecipeError, match="packed in different ways"):
        get_loader(mixed, batch_size=1)
    assert get_loader(mixed, seq_len=45, batch_size=1).settings.seq_len == 45
    with pytest.raises(RecipeError, match=r"(?s)packed in different ways.*`seq_len`\."):
        get_loader(mixed, packing="best_fit", seed=1, batch_size=1)
    assert get_loader(one, seed=5, batch_size=1).settings.seed == 5
    (other.data / "packing.json").write_text("{}")
    with pytest.raises(StoreError, match="packing.json` is damaged"):
        packed_note(other.data)


def test_training_takes_row_length_and_packing_of_packed_tokens() -> None:
    base = sh.FromScratch(tokenizer=TOKENIZER, hidden=16, layers=1, heads=2)
    packed = Pack(tokens=TOKENS, seq_len=40, packing=Packing("windows"))
    weights = Reweight(tokens=packed, weights=ROWS, column="score")
    for tokens in (packed, weights, sh.Mixture({"a": (packed, 1.0)})):
        step = sh.Finetune(base=base, tokens=tokens)
        assert (step.seq_len, step.packing) == (40, Packing("windows"))
        assert sh.Finetune(base=base, tokens=tokens, seq_len=40) == step
    with pytest.raises(RecipeError, match="packed with another `seq_len`"):
        sh.Finetune(base=base, tokens=packed, seq_len=64)


def test_a_plan_tells_what_training_on_packed_tokens_takes(tmp_path: Path) -> None:
    packed = Pack(tokens=TOKENS, seq_len=40, packing=Packing("best_fit", too_long="split"))
    weights = Reweight(tokens=packed, weights=ROWS, column="score")
    base = sh.FromScratch(tokenizer=TOKENIZER, hidden=16, layers=1, heads=2)
    with sh.Session(tmp_path, options=sh.Options(device="cpu"), track=False, progress=False) as session:
        session.run(weights)
        steps = [sh.Finetune(base=base, tokens=tokens) for tokens in (TOKENS, packed, weights)]
        told = {step.expect(None, session).seconds for step in steps}
    assert len(told) == 1
    assert None not in told


def test_weights_from_a_table_take_the_place_of_those_that_were_stored(session: sh.Session) -> None:
    packed = Pack(tokens=TOKENS, seq_len=40)
    scored = sh.Map(rows=ROWS, function=halved)
    tokens, plain, derived = made(
        session,
        [
            packed,
            Reweight(tokens=packed, weights=ROWS, column="score"),
            Reweight(tokens=packed, weights=scored, column="half", others=0.25),
        ],
    )
    before, after = TokenStore(tokens.data), TokenStore(plain.data)
    assert after.example_weights is not None
    assert after.example_weights.tolist() == [number / 4 for number in range(7)]
    assert after.fingerprint != before.fingerprint
    assert plain.record["facts"]["without_weight"] == 1
    assert plain.record["facts"]["learnt"] == after.num_learnt < before.num_learnt
    assert "unknown" not in plain.record["facts"]
    assert derived.record["facts"].get("unknown") is None
    half = TokenStore(derived.data).example_weights
    assert half is not None
    assert half.tolist() == [0.25, 0.125, 0.25, 0.375, 0.5, 0.625, 0.25]
    loader, weighted = get_loader(tokens, batch_size=2), get_loader(plain, batch_size=2)
    assert (loader.batch(0).ids == weighted.batch(0).ids).all()  # the plan is the same
    assert not (loader.batch(0).weights == weighted.batch(0).weights).all()


def halved(row: dict[str, float]) -> list[dict[str, float]]:
    return [{"half": row["score"] / 2}] if 0 < row["score"] < 1.5 else []


def test_weights_may_name_rows_by_a_column(session: sh.Session) -> None:
    tokens = session.run(TOKENS)
    store = TokenStore(tokens.data)
    ids = store.row_ids(range(3))
    table = sh.Import(data=[{"of": ids[2], "weight": 5.0}, {"of": "0" * 24, "weight": 1.0}], require=())
    warnings: list[str] = []
    session.bus.subscribe(lambda event: warnings.append(event.data["message"]) if event.kind == "warning" else None)
    made = session.run(Reweight(tokens=TOKENS, weights=table, row="of"))
    weights = TokenStore(made.data).example_weights
    assert weights is not None
    assert weights.tolist() == [1, 1, 5, 1, 1, 1, 1]
    assert made.record["facts"]["unknown"] == 1
    assert [said for said in warnings if said.startswith("1 of 2 rows with a weight speak of no row")]


@pytest.mark.parametrize(
    ("rows", "fields", "said"),
    [
        ([{"weight": 1.0}], {}, "none of the rows with weights was made from"),
        ([{"score": 1.0}], {}, "no column `weight`"),
        ([{"weight": "high"}], {}, "values of type string"),
        ([{"weight": None, "a": 1}, {"weight": 1.0, "a": 2}], {}, "1 empty values"),
        ([{"weight": 1.0, "of": 7}], {"row": "of"}, "holds no row ids"),
        ([{"weight": 1.0, "of": "x"}], {"row": "of"}, "not among the tokens, x first"),
        ([{"weight": 1.0, "of": "x"}, {"weight": 2.0, "of": "x"}], {"row": "of"}, "given two weights, 1 and 2"),
    ],
)
def test_tables_without_weights_for_the_tokens_are_refused(
    session: sh.Session, rows: list[dict[str, object]], fields: dict[str, str], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        session.run(Reweight(tokens=TOKENS, weights=sh.Import(data=rows, require=()), **fields))


def test_cached_plans_are_no_part_of_what_is_made_from_a_store(session: sh.Session) -> None:
    """Whether a loader was there before must not change a digest."""
    first = session.run(TOKENS)
    (first.data / "plans").mkdir()
    (first.data / "plans" / "cached-x.plan").write_bytes(b"x")
    made = session.run(Reweight(tokens=TOKENS, weights=ROWS, column="score"))
    assert not (made.data / "plans").exists()
    assert np.isfinite(TokenStore(made.data).lengths).all()
