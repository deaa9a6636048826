"""What a session may be told about calls, and what it says to a mistake there before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.budget import Budget
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.retry import Patience
from stillhouse.calls.settings import checked
from stillhouse.core.context import Context
from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.outcome import Emit, Fail, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep
from stillhouse.rows.import_ import Import

NOTHING = {"budget": None, "patience": None, "concurrency": None, "prices": None, "endpoints": None, "batch": None}


def test_plain_values_stand_for_records() -> None:
    found = checked(
        {
            "budget": 5,
            "patience": {"attempts": 3},
            "concurrency": {"house": 4},
            "batch": "wait",
            "prices": {"house": {"prompt": 1, "reply": 2}, "other": (1, 2, 0.5)},
            "endpoints": {"house": "http://h/v1", "pool": ["http://a/v1", {"url": "http://b/v1", "rpm": 60}]},
        }
    )
    assert found == {
        "budget": Budget(usd=5),
        "patience": Patience(attempts=3),
        "concurrency": {"house": 4},
        "batch": "wait",
        "prices": {"house": Price(1, 2), "other": Price(1, 2, 0.5)},
        "endpoints": {
            "house": Endpoint("http://h/v1"),
            "pool": [Endpoint("http://a/v1"), Endpoint("http://b/v1", rpm=60)],
        },
    }
    engine = {"vllm:x": {"max_model_len": 5}}
    assert checked({**NOTHING, "endpoints": engine})["endpoints"] == engine


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"budget": "much"}, "`budget.usd`: Input should be a valid number"),
        ({"budget": {"eur": 5}}, "`eur` is not a setting of `budget`"),
        ({"budget": -1}, "a budget cannot be negative"),
        ({"concurrency": 0}, "`concurrency` is 0, expected at least 1"),
        ({"concurrency": {"house": -3}}, "`concurrency` is -3, expected at least 1"),
        ({"prices": {"house": 5}}, "`prices.house`"),
        ({"prices": {"house": (-1, 2)}}, "`prices.house`: a price is 0 or more, not -1"),
        ({"prices": {"house": Price(float("nan"), 2)}}, "`prices.house`: a price is 0 or more, not nan"),
        ({"prices": {"house": Price("a", 2)}}, "`prices.house"),  # type: ignore[arg-type]
        ({"endpoints": {"house": {"urls": "http://h/v1"}}}, "Did you mean `url`?"),
        ({"endpoints": {"openai": "http://h/v1"}}, "`openai` is a provider, and a session cannot move it"),
        ({"endpoints": {"house": []}}, "`house` is declared as a pool of no endpoints"),
        ({"endpoints": {"http://h/v1": "http://other/v1"}}, "is declared with another URL"),
        ({"batch": "nonsense"}, "`batch` is 'nonsense'"),
        ({"batch": {"pol": 60}}, "Did you mean `poll`?"),
        ({"prices": 5}, "`prices` must be a mapping"),
        ({"endpoints": {"house": 5}}, "`endpoints.house.url`"),
        ({"endpoints": {"house": {"url": "http://h/v1", "rps": 5}}}, "`rps` is not a setting of `endpoints.house`"),
        ({"patience": 5}, "`patience`"),
        ({"patience": {"attempt": 5}}, "Did you mean `attempts`?"),
        ({"options": 5}, "`options` is 5"),
        ({"options": {"worker": 5}}, "Did you mean `workers`?"),
        ({"engine": 5}, "there is no engine `5`"),
    ],
)
def test_what_cannot_be_is_said_when_the_session_is_made(tmp_path: Path, told: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Session(tmp_path / "s", **told)
    assert says in str(caught.value)


def test_an_option_that_cannot_be_is_told_plainly() -> None:
    with pytest.raises(RecipeError, match="Options: `workers`: input should be greater than or equal to 1"):
        Options(workers=0)


def test_names_and_texts_will_do_where_one_asks_directly(tmp_path: Path) -> None:
    script("echo", lambda messages, schema, sample: messages[-1]["content"].upper())
    with Session(tmp_path / "s") as session:
        assert session.wait_for(session.calls.ask("scripted:echo", "a")).text == "A"
        many = session.wait_for(session.calls.ask_many(Ask(model="scripted:echo"), ["a", "b"]))
        assert [answer.text for answer in many] == ["A", "B"]
        with pytest.raises(RecipeError, match="takes a list of prompts, and this is one text"):
            session.wait_for(session.calls.ask_many("scripted:echo", "hello"))
        assert session.calls.spent()["total"]["calls"] == 2
        with pytest.raises(RecipeError, match="only steps can be run, not 5"):
            session.run(5)  # type: ignore[call-overload]


class Plainly(MapStep, tag="test.plainly/1"):
    """Asks by texts, and whom a bare name says where there is no `Ask`."""

    by: Ask | None = None

    def mapper(self, context: Context) -> Mapper:
        calls = context.calls

        async def asked(rows: Sequence[Row]) -> list[Outcome]:
            if self.by is not None:
                found = await calls.ask_many(self.by, [row["text"] for row in rows])
            else:
                found = [await one(row) for row in rows]
            return [_outcome(row, each) for row, each in zip(rows, found, strict=True)]

        async def one(row: Row) -> Any:
            try:
                return await calls.ask("scripted:fickle", row["text"])
            except RowFault as fault:
                return fault

        return asked


def _outcome(row: Row, found: Any) -> Outcome:
    if isinstance(found, RowFault):
        return Fail(found.kind, found.message, found.raw)
    return Emit([{"text": row["text"], "reply": found.text}])


def test_texts_of_rows_that_ask_the_same_are_asked_apart(tmp_path: Path) -> None:
    script("counted", lambda messages, schema, sample: str(sample))
    rows = Import(data=[{"text": "a"}, {"text": "a"}, {"text": "b"}], require=())
    with Session(tmp_path / "s") as session:
        made = session.run(Plainly(rows=rows, by=Ask(model="scripted:counted", temperature=1.0)))
        replies = [row["reply"] for row in made]
    assert replies[0] == replies[2] == "0" != replies[1]


@pytest.mark.parametrize("named", [False, True])
def test_rows_that_asked_by_names_and_texts_are_tried_again(tmp_path: Path, named: bool) -> None:
    heard: list[str] = []

    def fickle(messages: Any, schema: Any, sample: int) -> str:
        heard.append(messages[-1]["content"])
        return "" if heard[-1] == "b" and sample < 1_000_000 else "fine"

    script("fickle", fickle)
    rows = Import(data=[{"text": "a"}, {"text": "b"}], require=())
    step = Plainly(rows=rows) if named else Plainly(rows=rows, by=Ask(model="scripted:fickle"))
    with Session(tmp_path / "s", options=Options(max_failed=1.0)) as session:
        assert len(list(session.run(step).failed())) == 1
        made = session.retry(step)
        assert [(row["text"], row["reply"]) for row in made] == [("a", "fine"), ("b", "fine")]
    assert heard.count("a") == 1
