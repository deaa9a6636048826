"""What each step of `rows` and `curate` makes of a tiny table: rows with their ids, what was dropped or failed, why.

When one of these changes, either the change was not meant, or the number in the step's tag has to be raised; then
`python -m tests.golden.test_tables` writes `tables.json` anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

import stillhouse as sh

FILE = Path(__file__).with_name("tables.json")
ORDERS = sh.Import(
    data=[
        {
            "input": "Two large oat lattes to go, please, and a plain bagel",
            "output": {"latte": 2, "bagel": 1},
            "day": "mon",
        },
        {"input": "two large oat lattes to go please and a plain bagel", "output": {"latte": 2}, "day": "tue"},
        {"input": "Two large oat lattes to go, please, and a plain bagel now", "output": "2, 1", "day": "mon"},
        {"input": "half a dozen brownies for my sister", "output": {"brownie": 6}, "day": None},
        {"input": "a chai", "output": "", "day": "tue"},
    ]
)
DAYS = sh.Import(data=[{"day": "tue", "open": True}, {"day": "mon", "open": False}], require=())
SCORED = sh.Import(
    data=[
        {"input": "two lattes", "vector": [1.0, 0.0], "score": 1},
        {"input": "two lattes please", "vector": [0.8, 0.6], "score": 3},
        {"input": "a bagel", "vector": [0.0, 1.0], "score": 2},
        {"input": "a bagel now", "vector": [0.0, -1.0], "score": None},
    ],
    require=(),
)
WORDS, VECTORS = sh.Index(rows=SCORED, by=sh.Bm25(), column="input"), sh.Index(rows=SCORED, by=None, column="vector")
PAIRS = sh.Import(data=[{"vector": [3.0, 4.0], "other": [4.0, 3.0]}, {"vector": [1.0], "other": [0.0]}], require=())
SECRETS = sh.Import(data=[{"input": "from ann@example.org, 415-555-2671"}, {"input": "a chai"}], require=())


def shortened(row: dict[str, Any]) -> list[dict[str, Any]]:
    if not row["output"]:
        raise ValueError("no output")
    return [{"input": word, "output": row["output"]} for word in row["input"].split()[:2]]


def on_monday(row: dict[str, Any]) -> bool | str:
    return row["day"] == "mon" or f"on {row['day']}"


def holds_an_object(row: dict[str, Any], reply: str) -> bool:
    return isinstance(json.loads(reply), dict)


STEPS: dict[str, sh.Step[sh.Rows]] = {
    step.tag + suffix: step
    for suffix, step in [
        ("", ORDERS),
        ("", sh.Grid(attributes={"size": ("S", "L"), "milk": ("oat", None)}, num=3, each=2, number="cup")),
        ("", sh.ToMessages(rows=ORDERS, system="You are a till.")),
        ("", sh.Map(rows=ORDERS, function=shortened)),
        ("", sh.Filter(rows=ORDERS, where=on_monday)),
        ("", sh.Select(rows=ORDERS, columns=("day", "input"))),
        ("", sh.Rename(rows=ORDERS, names={"day": "weekday"})),
        ("", sh.Take(rows=ORDERS, num=2)),
        ("", sh.Skip(rows=ORDERS, num=3)),
        ("", sh.Shuffle(rows=ORDERS, seed=3)),
        ("", sh.Sort(rows=ORDERS, by=("day", "input"), descending=("day",))),
        ("", sh.Sample(rows=ORDERS, size=2)),
        (" equal", sh.Sample(rows=ORDERS, size=3, by="day", shares="equal")),
        ("", sh.Concat(rows=(DAYS, sh.Take(rows=ORDERS, num=1), DAYS))),
        ("", sh.Zip(rows=(DAYS, sh.Rename(rows=sh.Take(rows=ORDERS, num=2), names={"day": "weekday"})))),
        ("", sh.Join(left=ORDERS, right=DAYS, on=("day",), how="left")),
        (" characters", sh.Dedup(rows=ORDERS, unit="characters", ngram=4, threshold=0.5)),
        (" exact", sh.Dedup(rows=ORDERS, threshold=None)),
        ("", sh.Dedup(rows=ORDERS)),
        ("", sh.SemanticDedup(rows=SCORED, threshold=0.75, keep="best", by="score")),
        ("", sh.DiverseSubset(rows=SCORED, size=2)),
        (" farthest", sh.DiverseSubset(rows=SCORED, size=2, method="k_centre")),
        (" texts", sh.DiverseSubset(rows=ORDERS, size=2, texts="input")),
        ("", sh.BestApart(rows=SCORED, by="score", size=2, threshold=0.75)),
        ("", sh.Quality(rows=ORDERS, columns="input", rules=("c4", sh.Rule(measure="mean_word_length", at_least=4.5)))),
        (" languages", sh.Quality(rows=ORDERS, columns="input", rules=(sh.Language(languages="en"), sh.NoPii()))),
        ("", sh.MeasureText(rows=ORDERS, column="input", measures=("words", "alphabetic_words"))),
        (" redact", sh.Pii(rows=SECRETS, columns="input")),
        (" mark", sh.Pii(rows=SECRETS, columns="input", action="mark")),
        (" drop", sh.Pii(rows=SECRETS, columns="input", action="drop")),
        ("", sh.Band(rows=SCORED, by="score", percentiles=(10, 90))),
        ("", sh.LengthBand(rows=ORDERS, columns="input", unit="words", at_least=7, at_most=11)),
        ("", sh.Perplexity(rows=ORDERS, columns="input", reference=SCORED)),
        ("", sh.Keep(rows=ORDERS, where=holds_an_object)),
        ("", sh.Decontaminate(rows=ORDERS, against={"held_out": sh.Take(rows=ORDERS, num=1)})),
        (" words", sh.Retrieve(rows=ORDERS, index=WORDS, column="input", k=2)),
        (" vectors", sh.Retrieve(rows=SCORED, index=VECTORS, column="vector", k=2, apart=True)),
        ("", sh.CosineSimilarity(rows=PAIRS, left="vector", right="other")),
    ]
} | {
    "rows.split/2 train": sh.Split(rows=ORDERS, test_size=2, by="day").train,
    "rows.split/2 test": sh.Split(rows=ORDERS, test_size=2, by="day").test,
    "rows.split/2 grouped": sh.Split(rows=ORDERS, test_size=2, group="day").test,
    "curate.split_apart/2 train": sh.SplitApart(rows=ORDERS, test_size=2).train,
    "curate.split_apart/2 test": sh.SplitApart(rows=ORDERS, test_size=2).test,
}


def made(session: sh.Session, step: sh.Step[sh.Rows]) -> dict[str, Any]:
    """All that a step made, as JSON values."""
    rows = session.run(step)
    whole = {
        "rows": [row for batch in rows.batches(lineage=True) for row in batch],
        "dropped": [[row["_id"], row["reason"], row["detail"]] for row in rows.dropped()],
        "failed": [[row["_id"], row["kind"], row["message"]] for row in rows.failed()],
        "digest": rows.digest,
    }
    found: dict[str, Any] = json.loads(json.dumps(whole))
    return found


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_makes_what_it_made(session: sh.Session, name: str) -> None:
    assert made(session, STEPS[name]) == json.loads(FILE.read_text())[name]


def test_every_step_that_makes_rows_is_looked_at() -> None:
    from stillhouse.core.catalogue import catalogue, find_class

    kinds = [find_class(name) for name in catalogue() if name.startswith(("rows.", "curate."))]
    tags = {kind.tag for kind in kinds if kind is not None and issubclass(kind, sh.Step) and kind.makes() is sh.Rows}
    assert tags - {name.split(" ")[0] for name in STEPS} == set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sh.Session(folder, progress=False, track=False) as opened:
        FILE.write_text(json.dumps({name: made(opened, step) for name, step in STEPS.items()}, indent=1) + "\n")
