import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from examples.orders.guests import invent
from examples.orders.lexicon import lexemes
from examples.orders.menu import DRINKS, EXTRAS, FOOD, MAX_COUNT, SIZES
from examples.orders.reading import read_order
from examples.orders.schema import Extra, Item, Name, Order, Size, verify
from examples.orders.teacher import MALFORMED_SHARE, WRONG_SHARE, reply

ROOT = Path(__file__).resolve().parents[2]
SEEDS = [json.loads(line) for line in (ROOT / "examples/orders/seeds.jsonl").read_text("utf-8").splitlines()]
ANSWER: dict[str, Any] = {"title": "ReasonedAnswer", "properties": {"output": Order.model_json_schema()}}


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Answer this one.\n<input>{text}</input>"}]


def answers(number: int, sample: int = 0) -> Iterator[tuple[str, str]]:
    return (answer(seed, sample) for seed in range(number))


@cache
def answer(seed: int, sample: int) -> tuple[str, str]:
    """What a guest says and what the teacher makes of it: several tests look at the same thousands."""
    text = invent(random.Random(seed)).text
    return text, reply(ask(text), ANSWER, sample)


@cache
def read(text: str) -> dict[str, Any]:
    return read_order(text)


def well_formed(text: str) -> bool:
    try:
        return set(json.loads(text)) == {"thinking", "output"}
    except json.JSONDecodeError:
        return False


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed["input"][:30])
def test_a_seed_is_read_as_its_author_meant_it(seed: dict[str, Any]) -> None:
    assert read_order(seed["input"]) == seed["output"]
    assert verify(seed) is True


def test_seeds_show_every_name_of_the_sheet() -> None:
    items = [item for seed in SEEDS for item in seed["output"]["items"]]
    assert {item["item"] for item in items} == {*DRINKS, *FOOD}
    assert {item["size"] for item in items} == {None, *SIZES}
    assert {extra for item in items for extra in item["extras"]} == {*EXTRAS}
    assert {item["count"] for item in items} == set(range(1, MAX_COUNT + 1))
    assert {seed["output"]["to_go"] for seed in SEEDS} == {True, False}


def test_the_schema_knows_the_names_of_the_menu_and_no_others() -> None:
    assert set(get_args(Name)) == {*DRINKS, *FOOD}
    assert get_args(Size) == SIZES
    assert get_args(Extra) == EXTRAS


@pytest.mark.parametrize(
    "item",
    [
        {"count": 0, "item": "latte", "size": None, "extras": []},
        {"count": 13, "item": "latte", "size": None, "extras": []},
        {"count": "2", "item": "latte", "size": None, "extras": []},
        {"count": 1, "item": "lattes", "size": None, "extras": []},
        {"count": 1, "item": "latte", "size": "huge", "extras": []},
        {"count": 1, "item": "latte", "size": None, "extras": ["vanilla", "iced"]},
        {"count": 1, "item": "latte", "size": None, "extras": ["iced", "iced"]},
        {"count": 1, "item": "brownie", "size": "small", "extras": []},
        {"count": 1, "item": "brownie", "size": None, "extras": ["caramel"]},
        {"count": 1, "item": "latte", "size": None},
        {"count": 1, "item": "latte", "size": None, "extras": [], "price": 3},
    ],
)
def test_an_item_off_the_sheet_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Item.model_validate(item)


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("{", "not JSON"),
        ({"items": [], "to_go": False}, "items"),
        ({"items": [{"count": 1, "item": "mocha", "size": None, "extras": []}], "to_go": False}, "the guest names"),
        ({"items": [{"count": 1, "item": "latte", "size": "small", "extras": []}], "to_go": False}, "`small`"),
        ({"items": [{"count": 1, "item": "latte", "size": None, "extras": ["iced"]}], "to_go": False}, "`iced`"),
    ],
)
def test_the_verifier_says_what_is_wrong(output: object, complaint: str) -> None:
    found = verify({"input": "a latte please", "output": output})
    assert isinstance(found, str)
    assert complaint in found


def test_the_verifier_takes_json_text_as_well_as_a_value() -> None:
    seed = SEEDS[0]
    assert verify({"input": seed["input"], "output": json.dumps(seed["output"])}) is True


@pytest.mark.parametrize(
    ("text", "items", "to_go"),
    [
        ("latte x2, 3x brownie - to-go", [(2, "latte", None, []), (3, "brownie", None, [])], True),
        ("my little brother wants mocha, big smile, and I'm at table 4", [(1, "mocha", None, [])], False),
        ("a latte for Kim with oat milk and a shot", [(1, "latte", None, ["oat milk", "extra shot"])], False),
        ("an extra shot latte & chai on ice", [(1, "latte", None, ["extra shot"]), (1, "chai", None, ["iced"])], False),
        ("two cups of green tea with a little vanilla", [(2, "green tea", None, ["vanilla"])], False),
        ("I have to go soon, a large, iced soy latte", [(1, "latte", "large", ["iced", "soy milk"])], False),
        ("half a dozen slices of banana bread, I'll take it with me", [(6, "banana bread", None, [])], True),
        ("HOT CHOCOLATE WITHOUT CAFFEINE IN A BAG", [(1, "hot chocolate", None, ["decaf"])], True),
        ("a latte with vanilla and caramel and a caramel mocha", None, False),
    ],
)
def test_the_reader_attaches_words_to_their_items(text: str, items: list[Any] | None, to_go: bool) -> None:
    if items is None:
        items = [(1, "latte", None, ["vanilla", "caramel"]), (1, "mocha", None, ["caramel"])]
    order = read_order(text)
    assert [tuple(item.values()) for item in order["items"]] == items
    assert order["to_go"] is to_go


def test_invented_guests_stay_within_the_task() -> None:
    for seed in range(3000):
        guest = invent(random.Random(seed))
        Order.model_validate(guest.order)
        assert read_order(guest.text) == guest.order, guest.text


def test_words_around_an_order_name_nothing_on_the_menu() -> None:
    from examples.orders import words

    for name, value in vars(words).items():
        if name.isupper():
            named = [word for word in value for lexeme in lexemes(word) if lexeme.kind in ("item", "extra")]
            assert named == [], name


def test_the_share_of_wrong_and_of_malformed_replies_is_as_set() -> None:
    number = 4000
    malformed = wrong = 0
    for text, said in answers(number):
        if not well_formed(said):
            malformed += 1
        else:
            wrong += json.loads(said)["output"] != read(text)
    assert 0.6 * MALFORMED_SHARE < malformed / number < 1.4 * MALFORMED_SHARE
    assert 0.6 * WRONG_SHARE < wrong / number < 1.4 * WRONG_SHARE


def test_samples_of_one_request_err_independently() -> None:
    per_sample = []
    for sample in range(3):
        right = [well_formed(said) and json.loads(said)["output"] == read(text) for text, said in answers(1500, sample)]
        per_sample.append(right)
    wrong_twice = sum(sum(rights) <= 1 for rights in zip(*per_sample, strict=True))
    assert wrong_twice / 1500 < 0.03


def test_the_verifier_and_the_majority_catch_most_mistakes() -> None:
    caught = missed = 0
    for text, said in answers(4000):
        if well_formed(said) and json.loads(said)["output"] != read(text):
            if verify({"input": text, "output": json.loads(said)["output"]}) is True:
                missed += 1
            else:
                caught += 1
    assert caught > missed / 2


def test_wrong_replies_keep_to_the_schema_so_that_only_a_check_of_content_finds_them() -> None:
    for _, said in answers(1500):
        if well_formed(said) and json.loads(said)["output"]["items"]:
            Order.model_validate(json.loads(said)["output"])


def test_replies_repeat_in_another_process_with_another_hash_seed() -> None:
    request = ask(SEEDS[10]["input"])
    program = (
        "import json, sys; from examples.orders.teacher import reply; messages, schema = json.load(sys.stdin); "
        "print(json.dumps([reply(messages, schema, sample) for sample in range(20)]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([request, ANSWER]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(there.stdout) == [reply(request, ANSWER, sample) for sample in range(20)]


def test_new_inputs_are_as_many_as_asked_for_and_not_among_those_shown() -> None:
    schema = {"title": "NewInputs"}
    shown: set[str] = set()
    for sample in range(30):
        messages = [{"role": "user", "content": "Write 12 new inputs. Existing:\n" + "\n".join(shown)}]
        said = reply(messages, schema, sample)
        try:
            inputs = json.loads(said)["inputs"]
        except (json.JSONDecodeError, KeyError):
            continue
        assert len(inputs) == 12
        assert not shown & set(inputs)
        shown |= set(inputs)
    assert len(shown) > 20 * 12


def test_samples_of_one_request_for_inputs_differ() -> None:
    messages = [{"role": "user", "content": "Write 5 new inputs."}]
    said = [reply(messages, {"title": "NewInputs"}, sample) for sample in range(10)]
    assert len(set(said)) == 10


def test_a_request_to_mend_a_reply_is_answered_about_the_same_guest() -> None:
    messages = [
        *ask(SEEDS[0]["input"]),
        {"role": "assistant", "content": '{"thinking": "2 large'},
        {"role": "user", "content": "That is not valid JSON. Reply again."},
    ]
    assert any(
        well_formed(said := reply(messages, ANSWER, sample)) and json.loads(said)["output"] == SEEDS[0]["output"]
        for sample in range(3)
    )


def test_an_output_declared_as_text_is_given_as_json_text() -> None:
    schema = {"title": "ReasonedAnswer", "properties": {"output": {"type": "string"}}}
    said = json.loads(reply(ask(SEEDS[0]["input"]), schema, 0))
    assert json.loads(said["output"]) == SEEDS[0]["output"]


def test_without_a_schema_the_reply_is_the_order() -> None:
    assert json.loads(reply([{"role": "user", "content": SEEDS[0]["input"]}], None, 0)) == SEEDS[0]["output"]


class Lengths(BaseModel):
    shortest: int
    longest: int


class TaskPolicy(BaseModel):
    task_description: str
    key_constraints: list[str]
    reasoning_patterns: list[str]
    difficulty: str
    input_length_range: tuple[int, int]
    output_length: Lengths
    reasoning_style: str | None


def test_the_policy_fills_what_the_schema_asks_for() -> None:
    said = reply([{"role": "user", "content": "Describe the task."}], TaskPolicy.model_json_schema(), 0)
    policy = TaskPolicy.model_validate_json(said)
    assert any("latte" in constraint for constraint in policy.key_constraints)
    assert policy.output_length.shortest < policy.output_length.longest
    assert policy.input_length_range[0] < policy.input_length_range[1]
