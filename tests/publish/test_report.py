"""The report page: complete, self-contained, and deaf to what models write."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.core.artifact import Model, Rows
from stillhouse.core.context import Context
from stillhouse.core.outcome import KEEP, Drop, Fail, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep, Step
from stillhouse.evaluate.compare import Compare
from stillhouse.evaluate.predict import Predict
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.json_fields import JsonFields
from stillhouse.publish._page import chart, difference, dollars, seconds, ticks_over
from stillhouse.publish._report import reasons
from stillhouse.publish.report import ReportPage
from stillhouse.rows.import_ import Import

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}'


class Trained(Step[Model], tag="test_report.trained/1"):
    """A model folder with a history, as training leaves it."""

    def run(self, context: Context) -> None:
        lines: list[dict[str, Any]] = []
        for step in range(1, 501):
            lines.append(
                {"step": step, "loss": 4 / step**0.5, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": 64 * step}
            )
            if step % 50 == 0:
                lines.append({"step": step, "eval_loss": 4.2 / step**0.5})
        lines.append({"step": 501, "loss": float("nan")})
        (context.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        context.note(steps=500, eval_loss=0.19, device="cpu", stopped_early=False)


class Sieve(MapStep, tag="test_report.sieve/1"):
    """Drops and fails a few rows."""

    def mapper(self, context: Context) -> Mapper:
        def judge(row: Row) -> Outcome:
            number = int(row["input"].rpartition(" ")[2])
            if number % 10 == 1:
                return Drop("says the same as another row")
            return Fail("invalid", "not JSON", EVIL) if number % 10 == 2 else KEEP

        return lambda rows: [judge(row) for row in rows]


class Stopping(Step[Rows], tag="test_report.stopping/1"):
    """Keeps its rows and says why there are not more."""

    rows: Step[Rows]

    def run(self, context: Context) -> None:
        with context.rows() as writer:
            for row in context.get(self.rows):
                writer.keep(row)
        context.note(stopped="new ones no longer come")


def echo(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """Says the question back."""
    return messages[-1]["content"]


def shout(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """Says the question back, louder."""
    return messages[-1]["content"].upper()


ORDERS = tuple(
    {
        "input": f"please bring {n % 7} lattes and a very long winded wish {n}",
        "output": json.dumps({"items": [{"count": n % 7, "item": "latte"}], "to_go": n % 2 == 0}),
        "familiar": "seen" if n % 3 else "unseen",
    }
    for n in range(60)
)


def predicted(every: int) -> Import:
    rows = []
    for n, order in enumerate(ORDERS):
        wrong = EVIL if n == 5 else json.dumps({"items": [{"count": 9, "item": "tea"}], "to_go": n % 2 == 0})
        rows.append(
            {
                "input": order["input"],
                "reply": order["output"] if n % every else wrong,
                "error": "cut" if n == 10 else None,
            }
        )
    return Import(data=tuple(rows), require=())


def page(**options: Any) -> ReportPage:
    test = Import(data=ORDERS)
    comparison = Compare(
        models={"seeds only": predicted(2), "nearest seed": predicted(3), "student": predicted(11)},
        on=test,
        metrics=(ExactMatch(normaliser="json"), JsonFields()),
        slices=("familiar",),
    )
    fields: dict[str, Any] = {
        "title": f"Orders {EVIL}",
        "description": "Turn what a guest says into the till's JSON.",
        "model": Trained(),
        "funnel": {"orders": test, "sieved": Sieve(rows=test)},
    }
    return ReportPage(comparison=comparison, **{**fields, **options})


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    VOID = {"meta", "img", "br", "line", "polyline", "input", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def report(session: Session) -> tuple[str, dict[str, Any], Reader]:
    made = session.run(page())
    html = made.html.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return html, made.value, reader


def test_the_page_loads_nothing_and_runs_nothing(report: tuple[str, dict[str, Any], Reader]) -> None:
    html, _, reader = report
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form", "base"}
    for _, attributes in reader.tags:
        assert not {"src", "href", "action", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html


def test_what_models_wrote_is_text_and_no_markup(report: tuple[str, dict[str, Any], Reader]) -> None:
    html, _, reader = report
    assert "<script>" not in html
    assert "49" not in [text.strip() for text in reader.text]
    assert any("<script>alert(1)</script>" in text for text in reader.text)


def test_the_page_shows_scores_differences_slices_and_flips(report: tuple[str, dict[str, Any], Reader]) -> None:
    _, value, reader = report
    text = " ".join(" ".join(reader.text).split())
    scores = value["comparison"]["scores"]["student"]["exact match (json)"]
    assert f"{100 * scores['score']:.1f} %" in text
    assert "student against seeds only" in text
    assert "student is better" in text
    assert "By wording: seen in training, or not" in text
    assert "unseen · 20 rows, 33 %" in text
    (pair,) = [p for p in value["comparison"]["pairs"] if p["before"] == "seeds only" and "flips" in p]
    assert f"{pair['fixed']} fixed" in text
    assert all(flip["item"] in text for flip in pair["flips"]["fixed"] + pair["flips"]["broken"])
    assert "1 cut" in text


def test_the_page_shows_training_data_and_cost(report: tuple[str, dict[str, Any], Reader]) -> None:
    _, value, reader = report
    text = " ".join(" ".join(reader.text).split())
    assert "loss (last 0.1789) eval loss (last 0.1878)" in text
    assert "update 500" in text
    assert len([tag for tag, _ in reader.tags if tag == "polyline"]) == 4
    assert [
        (stage["label"], stage["in"], stage["out"], stage["dropped"], stage["failed"]) for stage in value["funnel"]
    ] == [
        ("orders", None, 60, 0, 0),
        ("sieved", 60, 48, 6, 6),
    ]
    assert "dropped: says the same as another row 6" in text
    assert "failed: invalid 6" in text
    assert "$0.00 · no calls" in text
    assert "stopped early no" in text


def test_the_cost_is_that_of_every_step_behind_the_page(session: Session) -> None:
    seeds = Import(data=ORDERS[:6])
    echoed = Predict(rows=seeds, by=Ask(model=f"python:{__name__}:echo"))
    compared = Compare(models={"echo": echoed}, on=seeds)
    made = session.run(ReportPage(comparison=compared, funnel={"asked": echoed}))
    cost = made.value["cost"]
    assert [line["label"] for line in cost["steps"]] == ["rows.import", "asked", "comparison"]
    assert (cost["calls"], cost["unpriced"]) == (6, sum(line["unpriced"] for line in cost["steps"]))
    assert made.value["funnel"][0]["asked"] == 6
    text = made.html.read_text()
    assert "asked 6 times" in text
    assert f"<strong>python:{__name__}:echo</strong> $0.00 for 6 calls" in text


def test_what_models_of_ones_own_were_asked_stands_apart(session: Session) -> None:
    seeds = Import(data=ORDERS[:6])
    models = {name: Predict(rows=seeds, by=Ask(model=f"python:{__name__}:{name}")) for name in ("echo", "shout")}
    cost = session.run(ReportPage(comparison=Compare(models=models, on=seeds))).value["cost"]
    assert [(model["name"], model["calls"]) for model in sorted(cost["models"], key=lambda model: model["name"])] == [
        (f"python:{__name__}:echo", 6),
        (f"python:{__name__}:shout", 6),
    ]
    assert cost["calls"] == 12


def test_reasons_that_tell_of_one_row_each_are_one() -> None:
    found = [f"its words are those of new input {number}" for number in range(3)]
    found += [
        "it is nearly seed 00d1f2a3b4c5d6e7 (similarity 0.83)",
        "it is nearly seed 11d1f2a3b4c5d6e7 (similarity 0.9)",
    ]
    found += ["it has 900 characters, outside of 9 to 400", "the sum is odd"]
    assert [(entry["reason"], entry["count"]) for entry in reasons(found)] == [
        ("its words are those of new input …", 3),
        ("it is nearly seed … (similarity …)", 2),
        ("it has 900 characters, outside of 9 to 400", 1),
        ("the sum is odd", 1),
    ]


def test_of_growth_no_rows_come_in(session: Session) -> None:
    compared = Compare(models={"m": predicted(2)}, on=Import(data=ORDERS))
    made = session.run(ReportPage(comparison=compared, funnel={"grown": Stopping(rows=Import(data=ORDERS[:6]))}))
    assert made.value["funnel"][0]["in"] is None


def test_the_reason_why_a_step_stopped_is_shown(session: Session) -> None:
    seeds = Import(data=ORDERS[:6])
    compared = Compare(models={"m": predicted(2)}, on=Import(data=ORDERS))
    made = session.run(ReportPage(comparison=compared, funnel={"grown": Stopping(rows=seeds)}))
    assert "why it ended: new ones no longer come" in made.html.read_text()


def test_a_page_needs_neither_model_nor_funnel_nor_a_second_model(session: Session) -> None:
    alone = Compare(models={"only": predicted(4)}, on=Import(data=ORDERS))
    made = session.run(ReportPage(comparison=alone))
    reader = Reader()
    reader.feed(made.html.read_text(encoding="utf-8"))
    headings = "".join(reader.text)
    assert "Training" not in headings
    assert "Still not right" in headings
    assert "exact match (strip)" in str(made)


def test_the_order_of_the_funnel_counts_in_the_key() -> None:
    a, b = Import(data=ORDERS[:3]), Import(data=ORDERS[:4])
    assert page(funnel={"a": a, "b": b}).recipe_key != page(funnel={"b": b, "a": a}).recipe_key


def test_texts_too_long_for_a_page_are_cut_and_say_so(session: Session) -> None:
    long = "x" * 50_000
    given = Import(data=({"input": "q", "reply": long},), require=())
    compared = Compare(models={"m": given}, on=Import(data=({"input": "q", "output": long + "y"},)))
    html = session.run(ReportPage(comparison=compared)).html.read_text()
    assert "(48000 more characters)" in html
    assert len(html) < 30_000


def test_differences_are_marked_word_by_word() -> None:
    assert difference('{"a":1, "b":2}', '{"a": 1, "b": 3}') == [('{"a": 1, "b": ', False), ("2", True), ("}", False)]
    assert difference("same", "same") == [("same", False)]
    assert difference("", "x") == [("", False)]
    assert difference("anything", None) == [("anything", False)]


def test_a_chart_keeps_its_points_inside_its_frame() -> None:
    drawn = chart("loss", {"loss": [(0, 3.0), (10, 1.0)], "eval_loss": [(5, 2.0)]})
    points = [tuple(map(float, p.split(","))) for line in drawn["lines"] for p in line["points"].split()]
    assert all(drawn["left"] <= x <= drawn["right"] and 0 <= y <= drawn["bottom"] for x, y in points)
    assert chart("x", {"x": [(1, 0.0)]})["lines"][0]["points"] == "66.0,176.0"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 6.88, [0, 2, 4, 6, 8]),
        (0.0, 0.002, [0, 0.0005, 0.001, 0.0015, 0.002]),
        (-1.0, 1.0, [-1, -0.5, 0, 0.5, 1]),
        (0.0, 0.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.0, 1e300, [0, 2e299, 4e299, 6e299, 8e299, 1e300]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert ticks_over(low, high) == pytest.approx(ticks)


def test_money_and_time_read_well() -> None:
    assert [dollars(value) for value in (0.0, 0.0123, 12.5)] == ["$0.00", "$0.0123", "$12.50"]
    assert [seconds(value) for value in (None, 1.25, 300.0, 9000.0)] == ["–", "1.2 s", "5.0 min", "2.5 h"]


def test_the_page_can_be_opened_without_the_store(session: Session, tmp_path: Path) -> None:
    copied = tmp_path / "report.html"
    copied.write_bytes(session.run(page()).html.read_bytes())
    assert copied.stat().st_size < 400_000
