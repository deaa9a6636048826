"""Verifiers of numbers, texts, lists and programs, and those made of others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Compare, Import, Keep, Session, load_recipe
from stillhouse.core.errors import RecipeError
from stillhouse.measure import _sandbox
from stillhouse.measure.code_verifier import CodeVerifier, code_of
from stillhouse.measure.combined_verifiers import Accepted, AllOf, AnyOf, MetricVerifier
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.limits import Limits
from stillhouse.measure.number_verifier import NumberVerifier
from stillhouse.measure.score import Metric
from stillhouse.measure.text_verifiers import ContainsVerifier, ListVerifier, RegexVerifier, listed
from stillhouse.measure.token_f1 import TokenF1
from stillhouse.measure.verdict import Verifier
from stillhouse.measure.verify import verdicts

SMALL = Limits(seconds=60, cpu_seconds=2, memory_mib=128, file_mib=1)


def accepts(verifier: Any, expected: Any, reply: str) -> bool:
    assert isinstance(verifier, Verifier)
    return verifier({"output": expected}, reply).accepted


@pytest.mark.parametrize(
    ("expected", "reply", "right"),
    [
        ("72", "She sold 48 + 24 = 72 clips.", True),
        (72, "#### 72", True),
        (72.0, "72 clips", True),
        ("72", "71.9", False),
        ("1,200", "It costs $1200.00.", True),
        ("1/2", "\\boxed{\\frac{1}{2}}", True),
        ("0.5", "\\boxed{\\frac{1}{2}}", True),
        ("\\frac{1}{3}", "0.333", False),
        ("1 3/4", "1.75", True),
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("0.5", "50 percent", True),
        ("50%", "5", False),
        (0.1, "0.1", True),
        (0.1 + 0.2, "0.3", True),
        ("-3", "3", False),
        ("3 × 10^8", "300000000 m/s", True),
        ("answer is 5", "the answer is 5, not 6", True),
        ("5", "I do not know", False),
    ],
)
def test_numbers_that_are_the_same_are_accepted(expected: Any, reply: str, right: bool) -> None:
    assert accepts(NumberVerifier(), expected, reply) == right


def test_numbers_may_differ_by_a_tolerance() -> None:
    assert accepts(NumberVerifier(absolute=0.005), "1/3", "0.333")
    assert not accepts(NumberVerifier(absolute=0.0003), "1/3", "0.333")
    assert accepts(NumberVerifier(relative=0.01), 1000, "1009")
    assert not accepts(NumberVerifier(relative=0.01), 1000, "1011")


def test_units_percent_and_place_are_choices() -> None:
    metric = NumberVerifier(units="compare")
    assert accepts(metric, "12 km", "12 km")
    assert metric({"output": "12 km"}, "12 m").reason == "its unit is `m`, not `km`"
    assert accepts(metric, "12", "12 m")
    assert not accepts(NumberVerifier(percent="hundredths"), "50%", "50")
    assert accepts(NumberVerifier(percent="hundredths"), "50%", "0.5")
    assert accepts(NumberVerifier(where="last"), 5, "\\boxed{4} or 5")
    assert not accepts(NumberVerifier(where="only"), 5, "it is 5")
    assert accepts(NumberVerifier(decimal=","), 3.5, "3,5")


def test_a_wrong_number_says_both() -> None:
    assert NumberVerifier()({"output": "72"}, "so 48 + 2 = 50").reason == "it comes to 50, not 72"
    assert NumberVerifier()({"output": None}, "50").reason == "there is no number in `output` to hold it against"
    assert (
        NumberVerifier()({"output": float("nan")}, "50").reason == "there is no number in `output` to hold it against"
    )
    with pytest.raises(RecipeError, match="has no column `answer`"):
        NumberVerifier(column="answer")({"output": "72"}, "72")


@given(value=st.integers(-(10**9), 10**9), other=st.integers(-(10**9), 10**9))
def test_equality_of_numbers_goes_both_ways(value: int, other: int) -> None:
    verify = NumberVerifier(relative=0)
    assert accepts(verify, value, f"{other:,}") == accepts(verify, f"{other:,}", str(value)) == (value == other)


def test_a_pattern_is_found_matches_or_is_absent() -> None:
    assert RegexVerifier(pattern=r"\d{4}-\d\d")({}, "on 2024-05").accepted
    assert (
        RegexVerifier(pattern=r"\d{4}-\d\d", whole=True)({}, "on 2024-05").reason == r"it does not match `\d{4}-\d\d`"
    )
    assert RegexVerifier(pattern=r"\d{4}-\d\d", whole=True)({}, " 2024-05\n").accepted
    assert RegexVerifier(pattern="sorry", absent=True, ignore_case=True)({}, "I am Sorry").reason == "it holds `Sorry`"
    assert RegexVerifier(pattern="a.b", dot_matches_all=True)({}, "a\nb").accepted
    with pytest.raises(RecipeError, match="is no regular expression"):
        RegexVerifier(pattern="(")


def test_texts_are_held_all_any_or_none() -> None:
    row = {"words": ["Oat milk", "latte"]}
    assert ContainsVerifier(column="words")(row, "a LATTE with oat\n milk").accepted
    assert ContainsVerifier(column="words")(row, "a latte").reason == "it does not hold `Oat milk`"
    assert not ContainsVerifier(column="words", exactly=True)(row, "oat milk latte").accepted
    assert ContainsVerifier(texts=("tea", "latte"), which="any")({}, "latte").accepted
    assert ContainsVerifier(texts=("tea",), which="none")({}, "steam").reason == "it holds `tea`"
    assert ContainsVerifier(texts=("tea",), which="none", words=True)({}, "steam").accepted
    assert not ContainsVerifier(texts=("tea",), words=True)({}, "steam").accepted
    with pytest.raises(RecipeError, match="give `texts`, or the `column`"):
        ContainsVerifier()
    with pytest.raises(RecipeError, match="an empty text"):
        ContainsVerifier(texts=(" ",))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["a", 1, {"b": 2}]', ["a", "1", '{"b": 2}']),
        ("- a b\n- c\n", ["a b", "c"]),
        ("1. a\n2) b\n\n(3) c", ["a", "b", "c"]),
        ("a, b, and c", ["a", "b", "and c"]),
        ("1,000; 2,000", ["1,000", "2,000"]),
        ("alone", ["alone"]),
        ("", []),
    ],
)
def test_lists_are_read_as_they_are_written(text: str, items: list[str]) -> None:
    assert listed(text) == items


def test_lists_are_compared_item_by_item() -> None:
    assert accepts(ListVerifier(), ["a", "b"], "B, a")
    assert ListVerifier()({"output": ["a", "b"]}, "a").reason == "it lacks `b`"
    assert ListVerifier()({"output": ["a"]}, "a, b").reason == "it also lists `b`"
    assert ListVerifier()({"output": ["a"]}, "a, a").reason == "it also lists `a`"
    assert accepts(ListVerifier(once=True), ["a"], "a, A")
    assert ListVerifier(order="same")({"output": ["a", "b"]}, "b, a").reason == "its order is another"
    assert accepts(ListVerifier(normaliser="number"), [1000, 2], "2.0; 1,000")
    assert not accepts(ListVerifier(), None, "a")


@given(items=st.lists(st.text(alphabet="abcé", min_size=1, max_size=4), max_size=6), seed=st.randoms())
def test_the_order_of_a_list_counts_only_where_it_should(items: list[str], seed: Any) -> None:
    import json

    shuffled = list(items)
    seed.shuffle(shuffled)
    assert accepts(ListVerifier(), items, json.dumps(shuffled))
    assert accepts(ListVerifier(order="same"), items, json.dumps(shuffled)) == (items == shuffled)
    assert not accepts(ListVerifier(), [*items, "more"], json.dumps(shuffled))


ADD = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nHave fun."


def test_a_program_must_pass_its_tests() -> None:
    verify = CodeVerifier(tests="tests", limits=SMALL)
    row = {"tests": "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'"}
    assert verify(row, ADD).accepted
    wrong = verify(row, ADD.replace("+", "-")).reason
    assert wrong == "AssertionError (line 1 of the tests: assert add(1, 2) == 3)"
    assert (verify(row, "I cannot.").reason or "").startswith("SyntaxError")
    assert (verify(row, "import os\nos._exit(0)").reason) == "its process ended before it was done"
    assert verify({"tests": ""}, ADD).reason == "the row has nothing in `tests`"


def test_a_program_must_print_what_is_expected() -> None:
    verify = CodeVerifier(stdin="given", stdout="wanted", limits=SMALL)
    row = {"given": "3 4", "wanted": "7\n"}
    assert verify(row, "```\nprint(sum(map(int, input().split())), ' ')\n```").accepted
    assert verify(row, "print(8)").reason == "it printed '8', not '7'"
    assert verify(row, "import sys; print(7); sys.exit(1)").reason == "it left with `1`"


def test_each_case_is_a_process_of_its_own() -> None:
    verify = CodeVerifier(cases="cases", limits=SMALL)
    row = {"cases": [{"input": "1", "output": "2"}, {"input": "5", "output": "6"}]}
    once = "import os\nassert not os.path.exists('seen')\nopen('seen', 'w').close()\nprint(int(input()) + 1)"
    assert verify(row, once).accepted
    assert verify(row, "print(2)").reason == "case 2: it printed '2', not '6'"
    with pytest.raises(RecipeError, match="case 1 in `cases` is 'x'"):
        verify({"cases": ["x"]}, once)
    with pytest.raises(RecipeError, match="leave `stdin` and `stdout` out"):
        CodeVerifier(cases="cases", stdout="wanted")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("x = 1", "x = 1"),
        ("```python\na\n```\ntext\n```py\nb\n```", "b\n"),
        ("```bash\nls\n```\n```python\na\n```\n```text\nout\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("~~~python\n```\n~~~", "```\n"),
        ("````python\n```\n````", "```\n"),
        ("```python\nnever closed", "```python\nnever closed"),
    ],
)
def test_code_is_what_stands_in_the_last_fence(reply: str, code: str) -> None:
    assert code_of(reply) == code


def test_where_a_program_cannot_be_contained_it_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox, "contained", lambda: {"network": False, "files": True, "processes": True})
    with pytest.raises(RecipeError, match="cannot be kept from the network of this machine"):
        CodeVerifier()({}, "x = 1")
    trusted = CodeVerifier(uncontained=True)
    assert trusted({}, "x = 1").accepted
    assert trusted.structure == CodeVerifier().structure


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Landlock")
def test_a_reply_that_wants_to_do_harm_does_none(session: Session, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("here")
    harm = f"import shutil\nshutil.rmtree({str(tmp_path)!r})\n"
    quiet = f"import shutil\nshutil.rmtree({str(tmp_path)!r}, ignore_errors=True)\nx = 1\n"
    rows = Import(data=[{"input": "1", "output": harm}, {"input": "2", "output": quiet}])
    made = session.run(Keep(rows=rows, where=CodeVerifier(limits=SMALL)))
    assert [row["input"] for row in made] == ["2"]
    assert "PermissionError" in next(made.dropped())["reason"]
    assert target.read_text() == "here"


def test_all_and_any_of_several_verifiers() -> None:
    digit, word = RegexVerifier(pattern=r"\d"), RegexVerifier(pattern="[a-z]")
    pairs: list[tuple[dict[str, Any], str]] = [({}, "1a"), ({}, "1"), ({}, "a"), ({}, "!")]
    assert [verdict.accepted for verdict in verdicts(AllOf(verifiers=(digit, word)), pairs)] == [
        True,
        False,
        False,
        False,
    ]
    found = verdicts(AnyOf(verifiers=(digit, word)), pairs)
    assert [verdict.accepted for verdict in found] == [True, True, True, False]
    assert found[3].reason == r"it does not hold `\d`; it does not hold `[a-z]`"
    assert AllOf(verifiers=(digit, word))({}, "1").reason == "it does not hold `[a-z]`"


def test_a_metric_is_a_verifier_and_a_verifier_a_metric() -> None:
    row = {"output": "a b c d"}
    verify = MetricVerifier(metric=TokenF1(), least=0.5)
    assert verify(row, "a b").accepted
    assert not verify(row, "a x y z").accepted
    assert MetricVerifier(metric=ExactMatch())({"output": None}, "x").reason == "no expected answer"
    metric = Accepted(verifier=RegexVerifier(pattern="a"))
    assert isinstance(metric, Metric)
    assert (metric.name, metric(row, "a"), metric(row, "b").value) == ("accepted", (1.0, None), 0.0)
    with pytest.raises(RecipeError, match="`RegexVerifier` is no metric"):
        MetricVerifier(metric=RegexVerifier(pattern="a"))


def test_a_metric_where_a_verifier_should_stand_is_told_the_way(session: Session) -> None:
    rows = Import(data=[{"input": "a", "output": "b"}])
    with pytest.raises(RecipeError, match="`ExactMatch` returned .*, not a verdict\n.*MetricVerifier"):
        session.run(Keep(rows=rows, where=ExactMatch()))


def test_verifiers_are_metrics_of_a_comparison(session: Session) -> None:
    held_out = Import(data=[{"input": f"{n} + {n}", "output": str(2 * n)} for n in range(1, 9)])
    words = Import(data=[{"input": f"{n} + {n}", "reply": f"It is {2 * n}."} for n in range(1, 9)], require=())
    wrong = Import(data=[{"input": f"{n} + {n}", "reply": f"{n} and {n + 1}"} for n in range(1, 9)], require=())
    numbers = Accepted(verifier=NumberVerifier(), label="right number")
    compared = Compare(models={"before": wrong, "after": words}, on=held_out, metrics=(numbers, ExactMatch()))
    scores = session.run(compared).value["scores"]
    assert scores["after"]["right number"]["score"] == 1.0
    assert scores["before"]["right number"]["score"] == pytest.approx(1 / 8)  # 1 + 1 is 2
    assert scores["after"]["exact match (strip)"]["score"] == 0.0


def test_a_recipe_file_names_judges_and_verifiers(session: Session, tmp_path: Path) -> None:
    recipe = tmp_path / "judged.yaml"
    recipe.write_text(
        """
nodes:
  rows: {uses: rows.import, data: [{input: "1 + 1", output: "2", a: "it is 2", b: "3 or so"}]}
  right:
    uses: curate.keep
    rows: $rows
    column: a
    where:
      uses: measure.all_of
      verifiers: [{uses: measure.number_verifier}, {uses: measure.regex_verifier, pattern: "is"}]
  judged:
    uses: generate.judge_pairs
    rows: $right
    by: {uses: calls.ask, model: "python:tests.generate.judges:longer"}
    instruction: "Which is better for {{ input }}?"
result: $judged
"""
    )
    (row,) = session.run(load_recipe(recipe).step)
    assert row["winner"] == "tie"
    recipe.write_text(recipe.read_text().replace("measure.regex_verifier, pattern", "measure.regex_verifier, patern"))
    with pytest.raises(RecipeError, match="Did you mean `pattern`"):
        load_recipe(recipe)
