"""`FewShot`: examples fitted to a budget, chosen alike whatever the order of work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate._few_shot import Shots, places_of
from stillhouse.generate._room import BYTES_PER_TOKEN, Room, room_of
from stillhouse.generate.few_shot import FewShot
from stillhouse.rows.combine import Concat
from stillhouse.rows.import_ import Import
from stillhouse.text.train_tokenizer import TrainTokenizer
from tests.generate.sums import content

EXAMPLES = Import(data=tuple({"input": f"in {n}", "output": f"out {n}"} for n in range(6)))
ROWS = Import(data=tuple({"input": f"row {n}"} for n in range(12)), require=("input",))


def last(messages: Any, schema: Any, sample: int) -> str:
    return str(messages[-1]["content"])


def few_shot(name: str, **fields: Any) -> FewShot:
    script(name, last)
    given = {"rows": ROWS, "by": Ask(model=f"scripted:{name}"), "examples": EXAMPLES, **fields}
    return FewShot(**given)


def shown(question: str) -> list[int]:
    """The numbers of the examples in a question."""
    return [int(line.removeprefix("Input: in ")) for line in question.split("\n") if line.startswith("Input: in ")]


def test_a_question_is_the_instruction_the_examples_and_the_input(session: Session) -> None:
    made = session.run(few_shot("whole", instruction="Answer.", most=2))
    assert made.head(1)[0]["output"] == (
        "Answer.\n\nInput: in 0\nOutput: out 0\n\nInput: in 1\nOutput: out 1\n\nInput: row 0\nOutput:"
    )


def test_examples_may_be_turns_of_a_conversation(session: Session) -> None:
    asked = script("turns", last)
    step = FewShot(
        rows=ROWS, by=Ask(model="scripted:turns"), examples=EXAMPLES, instruction="Answer.", most=2, turns=True
    )
    session.run(step)
    (messages,) = [request.messages for request in asked.requests if request.messages[-1]["content"] == "row 3"]
    assert messages == [
        {"role": "user", "content": "Answer.\n\nin 0"},
        {"role": "assistant", "content": "out 0"},
        {"role": "user", "content": "in 1"},
        {"role": "assistant", "content": "out 1"},
        {"role": "user", "content": "row 3"},
    ]
    none = script("no-turns", last)
    session.run(step.replace(by=Ask(model="scripted:no-turns"), most=0, least=0, instruction=None))
    assert none.requests[0].messages == [{"role": "user", "content": "row 0"}]


def test_labels_can_be_set(session: Session) -> None:
    step = few_shot("labels", most=1, input_label="Q:", output_label="A:", separator="\n--\n", column="reply")
    assert session.run(step).head(1)[0]["reply"] == "Q: in 0\nA: out 0\n--\nQ: row 0\nA:"


def test_random_examples_are_the_same_whatever_the_chunks_and_other_for_another_seed(tmp_path: Path) -> None:
    def made(name: str, options: Options, **fields: Any) -> list[list[int]]:
        with Session(tmp_path / name, track=False, progress=False, options=options) as session:
            return [shown(row["output"]) for row in session.run(few_shot("drawn", most=3, choose="random", **fields))]

    whole = made("whole", Options())
    assert made("pieces", Options(chunk=1, first_look=1)) == whole
    assert made("other", Options(), seed=1) != whole
    assert len({tuple(found) for found in whole}) > 6
    assert all(len(set(found)) == 3 for found in whole)


def test_round_robin_shows_all_equally_often(tmp_path: Path) -> None:
    step = few_shot("round", most=2, choose="round_robin")
    with Session(tmp_path, track=False, progress=False, options=Options(chunk=5, first_look=5)) as session:
        found = [shown(row["output"]) for row in session.run(step)]
    assert found[:4] == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert Counter(number for numbers in found for number in numbers) == dict.fromkeys(range(6), 4)


def test_as_many_examples_are_shown_as_the_tokens_allow(session: Session) -> None:
    counts = []
    for tokens in (20, 30, 40, 60):
        made = session.run(few_shot(f"budget-{tokens}", tokens=tokens))
        questions = [row["output"] for row in made]
        assert all(-(-len(question.encode()) // BYTES_PER_TOKEN) <= tokens for question in questions)
        counts.append(len(shown(questions[0])))
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == 5


def test_a_long_example_is_passed_over_for_the_next(session: Session) -> None:
    examples = Import(
        data=(
            {"input": "in 0", "output": "x" * 500},
            {"input": "in 1", "output": "y"},
            {"input": "in 2", "output": "z"},
        )
    )
    made = session.run(few_shot("long", examples=examples, tokens=40))
    assert shown(made.head(1)[0]["output"]) == [1, 2]


def test_a_row_for_which_too_few_fit_fails_unasked(session: Session) -> None:
    rows = Import(data=({"input": "short"}, {"input": "long " * 100}, {"input": "mean " * 14}), require=("input",))
    asked = script("too-long", last)
    step = FewShot(rows=rows, by=Ask(model="scripted:too-long"), examples=EXAMPLES, tokens=34)
    made = session.run(step)
    assert [row["input"] for row in made] == ["short"]
    assert [row["kind"] for row in made.failed()] == ["too_long", "too_long"]
    messages = [row["message"] for row in made.failed()]
    assert "may have 34 tokens; without any example it is longer" in messages[0]
    assert "only 0 of at least 1 examples fit" in messages[1]
    assert asked.num_calls == 1


def test_no_example_at_all_is_allowed_where_said(session: Session) -> None:
    made = session.run(few_shot("none", most=0, least=0))
    assert made.head(1)[0]["output"] == "Input: row 0\nOutput:"


def test_a_row_is_never_its_own_example(session: Session) -> None:
    made = session.run(few_shot("own", rows=EXAMPLES, column="reply"))
    for row in made:
        number = int(row["input"].removeprefix("in "))
        assert number not in shown(row["reply"])[:-1]
        assert len(shown(row["reply"])) == 6


def test_a_row_that_is_one_of_too_few_examples_fails_unasked(session: Session) -> None:
    rows = Concat(rows=(EXAMPLES, ROWS))
    made = session.run(few_shot("too-few", rows=rows, column="reply", least=6))
    assert len(made) == 12
    assert {row["kind"] for row in made.failed()} == {"empty"}
    assert "there are 5 examples besides itself, fewer than 6" in next(iter(made.failed()))["message"]


def test_tokens_are_counted_by_a_tokenizer_where_one_is_named(session: Session) -> None:
    from stillhouse.text.tokenizer import load_tokenizer

    tokenizer = TrainTokenizer(rows=EXAMPLES, columns=("input", "output"), vocab_size=300)
    made = session.run(few_shot("tokenizer", tokens=80, tokenizer=tokenizer))
    backend = load_tokenizer(session.run(tokenizer).path).backend_tokenizer
    lengths = [len(backend.encode(row["output"], add_special_tokens=False).ids) for row in made]
    assert 60 < max(lengths) <= 80
    assert shown(made.head(1)[0]["output"]) != shown(session.run(few_shot("guess", tokens=80)).head(1)[0]["output"])


def test_values_that_are_no_text_are_shown_as_json(session: Session) -> None:
    examples = Import(data=({"input": "in 0", "out": {"b": 1, "a": None}},), require=())
    made = session.run(few_shot("json", examples=examples, answer="out"))
    assert 'Output: {"b": 1, "a": null}' in made.head(1)[0]["output"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"least": 3, "most": 2}, "`least` is 3, more than `most`"),
        ({"tokenizer": TrainTokenizer(rows=EXAMPLES)}, "there is a `tokenizer`, but no limit"),
        ({"samples": 2, "by": Ask(model="openai/x")}, "at temperature 0"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        few_shot("refused", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": "inputs"}, r"FewShot: there is no column `inputs`\n  Did you mean `input`"),
        ({"answer": "outputs"}, r"FewShot: examples: there is no column `outputs`\n  Did you mean `output`"),
        ({"least": 7}, "there are 6 examples, fewer than `least`"),
        ({"column": "input"}, "have a column `input` already"),
        ({"instruction": "{{ tone }}"}, "has no column `tone`"),
    ],
)
def test_columns_that_are_not_there_are_named(session: Session, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        session.run(few_shot("missing", **fields))


def test_a_changed_example_makes_new_results(session: Session) -> None:
    first = session.run(few_shot("changed", most=1))
    other = Import(data=({"input": "in 9", "output": "out 9"},))
    assert content(session.run(few_shot("changed", most=1, examples=other))) != content(first)


def test_rows_where_nothing_fits_stop_the_step(session: Session) -> None:
    with pytest.raises(ModelError, match="too_long: row .* the question may have 3 tokens"):
        session.run(few_shot("nothing", tokens=3))


def test_places_are_those_in_the_table(session: Session) -> None:
    table = session.run(Concat(rows=(ROWS, EXAMPLES, ROWS)))
    place = places_of(table)
    assert [place(row["_id"]) for row in table] == list(range(30))


@given(sizes=st.lists(st.integers(0, 200), max_size=12), tokens=st.integers(1, 300), most=st.integers(0, 8))
def test_a_question_never_passes_the_limit(sizes: list[int], tokens: int, most: int) -> None:
    step = FewShot(rows=ROWS, by=Ask(model="scripted:x"), examples=EXAMPLES, tokens=tokens, most=most, least=0)

    def count(text: str) -> int:
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    examples = [shots_text(size) for size in sizes]
    try:
        question = Shots(step, Room(tokens, count, count("be brief"))).question({"_id": "1"}, "the input", examples)
    except RowFault:
        assert count("Input: the input\nOutput:") + count("be brief") > tokens
        return
    assert count(question) + count("be brief") <= tokens
    taken = question.count("<<")
    assert taken <= most
    left = sorted(size for size in sizes)[:1]
    if taken == 0 and most and left:  # then not even the shortest would have fitted
        assert count("\n\n".join([shots_text(left[0]), "Input: the input\nOutput:"])) + count("be brief") + 2 > tokens


def shots_text(size: int) -> str:
    return "<<" + "x" * size


def test_a_model_of_this_machine_is_shown_as_many_examples_as_its_window_holds(tmp_path: Path) -> None:
    from tests.models.tiny import tiny_model, tiny_tokenizer

    folder = tiny_model(tmp_path / "model", tiny_tokenizer(tmp_path / "tokenizer"), max_position_embeddings=160)
    by = Ask(model=f"local:{folder}", max_tokens=20, when_cut="keep", when_looping="keep")
    rows = Import(data=({"input": "red cat"}, {"input": "red cat " * 200}), require=("input",))
    examples = Import(data=tuple({"input": f"{n} {'cat ' * 9}", "output": "dog " * 9} for n in range(20)))
    step = FewShot(rows=rows, by=by, examples=examples, most=20)
    with Session(tmp_path / "store", track=False, progress=False) as session:
        made = session.run(step)
        assert [row["input"] for row in made] == ["red cat"]  # twenty examples would be 600 tokens
        (failed,) = made.failed()
    assert failed["kind"] == "too_long"
    assert "the model takes 160" in failed["message"]  # its own word: no estimate fails a row


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (127_000, 48, False)),
        ({"turns": True, "most": 3}, (127_000, 96, False)),
        ({"by": Ask(model="openai/gpt-4o", max_tokens=8000, system="Be brief.")}, (120_000, 51, False)),
        ({"tokens": 500}, (500, 0, True)),
    ],
)
def test_the_room_is_what_the_window_leaves_or_what_is_said(
    session: Session, changes: dict[str, Any], expected: tuple[int, int, bool]
) -> None:
    by = Ask(model="openai/gpt-4o", max_tokens=1000)
    step = FewShot(**{"rows": ROWS, "by": by, "examples": EXAMPLES, **changes})
    room = room_of(step, session)  # type: ignore[arg-type]  # a step by name is not looked up
    assert room is not None
    assert (room.tokens, room.taken, room.firm) == expected
    assert room.count("äöü" * 100) == 200


def test_what_a_schema_and_a_reply_of_unknown_length_take_is_left(session: Session) -> None:
    from stillhouse.text.schema import Schema

    step = FewShot(rows=ROWS, by=Ask(model="openai/gpt-4o"), examples=EXAMPLES)
    plain = room_of(step, session)  # type: ignore[arg-type]
    shaped = room_of(step.replace(response=Schema({"type": "object", "title": "T" * 300})), session)  # type: ignore[arg-type]
    assert plain is not None
    assert shaped is not None
    assert plain.tokens == shaped.tokens == 128_000 - 1024
    assert shaped.taken > plain.taken + 100
    assert room_of(step.replace(by=Ask(model="lab/unknown")), session) is None  # type: ignore[arg-type]


def test_two_asks_of_one_deployment_have_one_key_and_one_room(session: Session) -> None:
    known, other = (Ask(model=model, deployment="house") for model in ("openai/gpt-4o", "house/any"))
    steps = [FewShot(rows=ROWS, by=by, examples=EXAMPLES) for by in (known, other)]
    assert steps[0].structure == steps[1].structure
    assert [room_of(step, session) for step in steps] == [None, None]  # type: ignore[arg-type]
    said = room_of(steps[0].replace(tokens=500), session)  # type: ignore[arg-type]
    assert said is not None
    assert said.tokens == 500


@given(sizes=st.lists(st.integers(0, 200), max_size=12), tokens=st.integers(1, 300), least=st.integers(0, 3))
@settings(max_examples=30)
def test_an_estimate_leaves_examples_out_and_fails_no_row(sizes: list[int], tokens: int, least: int) -> None:
    step = FewShot(rows=ROWS, by=Ask(model="scripted:x"), examples=EXAMPLES, most=4, least=least)

    def count(text: str) -> int:
        return -(-len(text.encode()) // BYTES_PER_TOKEN)

    examples = [shots_text(size) for size in sizes]
    question, places = Shots(step, Room(tokens, count, firm=False)).fitted({"_id": "1"}, "the input", examples)
    assert min(least, len(sizes)) <= len(places) <= 4
    assert places == sorted(set(places))
    assert len(places) <= least or count(question) <= tokens
