"""`Amplify` with something to cover: what is planned, asked for, reached and reported."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import Interrupted, RecipeError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.generate._coverage import Band, _bands, _split
from stillhouse.generate.amplify import Amplify
from stillhouse.generate.answer import Answer
from stillhouse.generate.policy import ExtractPolicy, TaskPolicy
from stillhouse.rows.import_ import Import
from tests.generate import teachers
from tests.generate.sums import INSTRUCTION, POLICY, SEEDS, amplify, content

LEVELS = ("easy", "medium", "hard")
MIX = {"easy": 0.3, "medium": 0.5, "hard": 0.2}
EASY, MEDIUM, HARD = range(3)


def scripted(name: str, function: Any, **settings: Any) -> Ask:
    script(name, function, **settings)
    return Ask(model=f"scripted:{name}", deployment="writer")


def ordered(prompt: str, pattern: str) -> list[int]:
    """The numbers of an order in the prompt, one for each piece that was asked for."""
    return [int(name) for number, name in re.findall(pattern, prompt) for _ in range(int(number))]


def sentence(rng: random.Random, kind: int) -> str:
    people = rng.choice(teachers.GUESTS)
    if kind == 1:
        return f"{people} has {rng.randrange(10**5, 10**6)} and gets {rng.randrange(1000)}"
    return f"{people} has {rng.randrange(99)}, {rng.randrange(99)} and {rng.randrange(99)}"


def obedient(messages: Any, schema: Any, sample: int) -> str:
    """Writes what is asked for, and says so."""
    prompt = messages[-1]["content"]
    if schema["title"] != "LabelledInputs":
        return teachers.reply(messages, schema, sample)
    number = int(re.findall(r"Write (\d+) new inputs", prompt)[0])
    rng = random.Random(f"{prompt} {sample}")
    kinds = ordered(prompt, r"(\d+) of kind (\d+)") or [rng.randint(1, 2) for _ in range(number)]
    levels = [name for count, name in re.findall(r"(\d+) (easy|medium|hard)", prompt) for _ in range(int(count))]
    levels = levels or [rng.choice(LEVELS) for _ in range(number)]
    items = [
        {"input": sentence(rng, kind), "kind": kind, "difficulty": level}
        for kind, level in zip(kinds, levels, strict=True)
    ]
    return json.dumps({"inputs": items})


def headstrong(messages: Any, schema: Any, sample: int) -> str:
    """Writes what it likes: mostly easy ones of the first kind."""
    if schema["title"] != "LabelledInputs":
        return teachers.reply(messages, schema, sample)
    rng = random.Random(f"{messages[-1]['content']} {sample}")
    items = []
    for _ in range(10):
        kind = 1 if rng.random() < 0.8 else 2
        level = rng.choices(LEVELS, (0.7, 0.25, 0.05))[0]
        items.append({"input": sentence(rng, kind), "kind": kind, "difficulty": level})
    return json.dumps({"inputs": items})


@pytest.mark.parametrize("teacher", [obedient, headstrong])
def test_a_difficulty_mix_is_kept_whoever_writes(session: Session, teacher: Any) -> None:
    made = session.run(amplify(scripted("mix", teacher), 40, difficulty=MIX, least=0.001))
    rows = list(made)
    counts = {level: sum(row["difficulty"] == level for row in rows) for level in LEVELS}
    assert counts == {"easy": 36, "medium": 60, "hard": 24}
    found = made.record["facts"]["coverage"]["difficulty"]
    assert {level: (found[level]["planned"], found[level]["reached"]) for level in LEVELS} == {
        level: (share, share) for level, share in MIX.items()
    }
    funnel = made.record["facts"]["funnel"]
    assert funnel["new"] == 120
    assert funnel["came"] == 120 + sum(1 for _ in made.dropped())


def test_patterns_are_asked_for_until_they_are_even(session: Session) -> None:
    made = session.run(amplify(scripted("even", obedient), 40, steer=("patterns",)))
    found = made.record["facts"]["coverage"]["patterns"]
    assert found["large numbers"]["rows"] + found["three numbers"]["rows"] == 120
    assert abs(found["large numbers"]["reached"] - 0.5) < 0.05
    assert found["large numbers"]["planned"] == 0.5
    assert {row["pattern"] for row in made} == {"large numbers", "three numbers"}


def test_calls_ask_for_what_is_short(session: Session) -> None:
    """A writer that favours the first kind is asked for the second the more the further the growth goes."""
    model = script("lean", headstrong)
    by = Ask(model="scripted:lean")
    session.run(amplify(by, 40, steer=("patterns",), window=1))
    wanted = [
        sum(kind == 2 for kind in ordered(str(request.messages[-1]["content"]), r"(\d+) of kind (\d+)"))
        for request in model.requests
    ]
    assert len(wanted) >= 12
    assert sum(wanted[:3]) < sum(wanted[-3:])


def test_lengths_are_measured_and_steered(session: Session) -> None:
    model = script("lengths", teachers.reply)
    made = session.run(amplify(Ask(model="scripted:lengths"), 10, steer=("lengths",)))
    assert "characters, " in str(model.requests[0].messages[-1]["content"])
    assert made.columns == ["input"]  # nothing was labelled
    lengths = made.record["facts"]["coverage"]["lengths"]
    assert sum(line["rows"] for line in lengths.values()) == 30
    assert sum(line["planned"] for line in lengths.values()) == pytest.approx(1, abs=1e-3)
    for name, line in lengths.items():
        shortest, longest = map(int, re.findall(r"\d+", name))
        assert sum(shortest <= len(row["input"]) <= longest for row in made) == line["rows"]
    plain = session.run(amplify(Ask(model="scripted:lengths"), 10))
    assert {line["planned"] for line in plain.record["facts"]["coverage"]["lengths"].values()} == {None}


def test_another_model_may_say_what_inputs_are(session: Session) -> None:
    asked: list[str] = []

    def label(messages: Any, schema: Any, sample: int) -> str:
        prompt = messages[-1]["content"]
        asked.append(prompt)
        texts = [json.loads(line[2:]) for line in prompt.partition("Inputs:\n")[2].splitlines() if line[:2] == "- "]
        labels = [{"kind": 2 if text.count(",") else 1, "difficulty": LEVELS[len(text) % 3]} for text in texts]
        return json.dumps({"labels": labels[:-1]})  # it forgets the last one

    judge = scripted("judge", label).replace(deployment="judge")
    by = scripted("plain", teachers.reply)
    made = session.run(amplify(by, 10, steer=("patterns",), labelled_by=judge))
    assert asked
    assert "Of these, write" not in asked[0]
    rows = next(made.batches(lineage=True))
    assert all(len(row["_calls"]) == 2 for row in rows)
    assert {row["difficulty"] for row in rows} >= {"easy", "medium"}
    assert all(row["difficulty"] == LEVELS[len(row["input"]) % 3] for row in rows if row["difficulty"])
    assert any(row["difficulty"] is None and row["pattern"] == "another" for row in rows)


FEATURES: dict[str, dict[str, Any]] = {
    "all": {"difficulty": MIX, "steer": ("patterns", "lengths"), "alike": 0.97, "novelty": 0.01},
    "novelty": {"novelty": 0.05},
}


@pytest.mark.parametrize("fields", FEATURES.values(), ids=FEATURES)
def test_the_order_of_replies_changes_nothing(tmp_path: Path, fields: dict[str, Any]) -> None:
    waits = {
        "quick": None,
        "slow first": lambda call: 0.05 if call == 0 else 0.0,
        "mixed": lambda call: call * 7 % 5 / 99,
    }
    found = []
    for name, latency in waits.items():
        by = scripted(f"order-{name}", obedient, latency=latency)
        with Session(tmp_path / name, progress=False, track=False) as session:
            made = session.run(amplify(by, 15, **fields))
            found.append((made.digest, json.dumps(made.record["facts"]["coverage"]), made.record["facts"]["funnel"]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("fields", FEATURES.values(), ids=FEATURES)
def test_it_goes_on_after_an_interruption_as_if_there_had_been_none(tmp_path: Path, fields: dict[str, Any]) -> None:
    by = scripted("resume", headstrong)
    step = amplify(by, 30, **fields)
    with Session(tmp_path / "whole", progress=False, track=False) as session:
        whole = session.run(step)

    def stop(event: Event) -> None:
        if event.kind == "step.progress" and event.data.get("calls") == 4:
            session.stop()

    with (
        Session(tmp_path / "broken", progress=False, track=False, on_event=stop) as session,
        pytest.raises(Interrupted),
    ):
        session.run(step)
    with Session(tmp_path / "broken", progress=False, track=False) as session:
        made = session.run(step)
    assert made.digest == whole.digest
    assert made.record["facts"] == whole.record["facts"]


def test_what_is_alike_in_meaning_is_dropped(session: Session) -> None:
    texts = ["Zoe had seven apples and she got nine", "nine apples she got and Zoe had seven", "Kim: 12 + 30 + 7"]
    by = scripted("alike", lambda messages, schema, sample: json.dumps({"inputs": texts}))
    made = session.run(amplify(by, 10, alike=0.6, patience=2, slack=3))
    assert [row["input"] for row in made] == [texts[0], texts[2]]
    reason = next(made.dropped())["reason"]
    assert re.fullmatch(r"it means what new input 1 means \(cosine 0\.[6-9]\d\)", reason)
    assert made.record["facts"]["funnel"]["alike in meaning"] >= 1


def test_it_stops_when_what_is_new_is_hardly_so(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        if sample < 4:
            return teachers.new_inputs(messages, sample)
        return json.dumps({"inputs": [f"Kim has {sample * 10 + place} and gets 7" for place in range(10)]})

    made = session.run(amplify(scripted("stale", answer), 100, novelty=0.25, patience=4, threshold=1.0))
    assert "brought is near what there was: a novelty of 0." in made.record["facts"]["stopped"]
    assert len(made) < 300
    course = made.record["facts"]["novelty"]
    assert course[0] > course[-1]
    assert session.run(amplify(scripted("stale", answer), 30, patience=4, threshold=1.0)).record["facts"][
        "stopped"
    ] == "90 new inputs"  # fmt: skip


def test_a_level_that_never_comes_ends_the_growth_and_is_named(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        items = json.loads(obedient(messages, schema, sample))["inputs"]
        return json.dumps({"inputs": [{**item, "difficulty": "easy"} for item in items]})

    made = session.run(amplify(scripted("easy", answer), 20, difficulty=MIX, patience=5))
    stopped = made.record["facts"]["stopped"]
    assert stopped.endswith("18 of the 60 wanted (0 of 30 medium, 0 of 12 hard)")
    assert made.record["facts"]["coverage"]["difficulty"]["hard"] == {"planned": 0.2, "reached": 0.0, "rows": 0}


# clusters

ORDERS = [
    {"input": f"please bring {n} large oat lattes to table {t}", "output": str(n)} for n, t in ((2, 7), (3, 1), (4, 9))
]
HOURS = [{"input": f"when does the shop open on {day} mornings?", "output": "8"} for day in ("monday", "sunday")]
MIXED = Import(data=(ORDERS[0], HOURS[0], *ORDERS[1:], HOURS[1]), require=())


def cluster_teacher(messages: Any, schema: Any, sample: int) -> str:
    prompt = messages[-1]["content"]
    if schema["title"] == "TaskPolicy":
        both = "latte" in prompt and "open" in prompt
        kind = "both" if both else "orders" if "latte" in prompt else "hours"
        return json.dumps({**json.loads(teachers.policy()), "task_description": f"It is about {kind}."})
    rng = random.Random(f"{prompt} {sample}")
    if "It is about orders" in prompt:
        texts = [f"bring {rng.randrange(999)} cups of tea to table {rng.randrange(999)}" for _ in range(10)]
    else:
        texts = [
            f"does it open at {rng.randrange(99)}:{rng.randrange(99)} on day {rng.randrange(999)}?" for _ in range(10)
        ]
    return json.dumps({"inputs": texts})


@pytest.mark.parametrize("clusters", ["auto", 2])
def test_each_cluster_has_a_policy_and_new_inputs_of_its_own(session: Session, clusters: Any) -> None:
    model = script("clusters", cluster_teacher)
    by = Ask(model="scripted:clusters")
    policy = ExtractPolicy(rows=MIXED, by=by, instruction=INSTRUCTION, clusters=clusters)
    found = TaskPolicy(**session.run(policy).value)
    assert found.task_description == "It is about both."
    assert [cluster.task_description for cluster in found.clusters] == ["It is about orders.", "It is about hours."]
    assert [len(cluster.rows) for cluster in found.clusters] == [3, 2]
    assert session.run(policy).record["facts"]["clusters"] == [3, 2]
    made = session.run(Amplify(rows=MIXED, policy=policy, by=by, instruction=INSTRUCTION, factor=20))
    rows = next(made.batches(lineage=True))
    assert all((row["cluster"] == 1) == row["input"].startswith("bring") for row in rows)
    orders = {row["_id"] for row in session.run(MIXED) if "latte" in row["input"]}
    assert all(set(row["_parents"]) <= orders for row in rows if row["cluster"] == 1)
    assert not any(
        "open on" in str(r.messages[-1]["content"]) for r in model.requests if "about orders" in str(r.messages)
    )
    shares = made.record["facts"]["coverage"]["clusters"]
    assert shares["cluster 1"]["planned"] == 0.6
    assert abs(shares["cluster 1"]["reached"] - 0.6) <= 0.2


def test_rows_of_a_cluster_are_answered_by_its_policy(session: Session) -> None:
    script("clusters", cluster_teacher)
    policy = ExtractPolicy(rows=MIXED, by=Ask(model="scripted:clusters"), instruction=INSTRUCTION, clusters=2)
    asked = script("answers", lambda messages, schema, sample: json.dumps({"thinking": "", "output": "1"}))
    rows = Import(
        data=({"input": "a", "cluster": 2}, {"input": "b", "cluster": 1}, {"input": "c", "cluster": 9}), require=()
    )
    session.run(Answer(rows=rows, by=Ask(model="scripted:answers"), instruction=INSTRUCTION, policy=policy))
    prompts = [str(request.messages[-1]["content"]) for request in asked.requests]
    assert [re.findall(r"about (\w+)", prompt) for prompt in prompts] == [["hours"], ["orders"], ["both"]]


def test_rows_that_are_all_alike_have_one_policy(session: Session) -> None:
    script("one", lambda messages, schema, sample: teachers.policy())
    by = Ask(model="scripted:one")
    rows = Import(data=tuple({"input": f"add {n}{n} and {n}", "output": "1"} for n in range(2)), require=())
    policy = session.run(ExtractPolicy(rows=rows, by=by, instruction="?", clusters="auto"))
    assert "clusters" not in policy.value
    assert policy.record["facts"]["clusters"] == [2]


def test_seeds_that_the_policy_does_not_know_are_taken_together(session: Session) -> None:
    script("clusters", cluster_teacher)
    by = Ask(model="scripted:clusters")
    policy = ExtractPolicy(rows=MIXED, by=by, instruction=INSTRUCTION, clusters=2)
    made = session.run(Amplify(rows=SEEDS, policy=policy, by=by, instruction=INSTRUCTION, factor=4, slack=4))
    assert made.columns == ["input"]


# keys, and what cannot be


def test_a_recipe_that_uses_none_of_it_asks_and_is_called_as_before(session: Session) -> None:
    model = script("before", teachers.reply)
    made = session.run(amplify(Ask(model="scripted:before"), 10))
    assert content(made)[0].keys() == {"input"}
    prompts = [str(request.messages[-1]["content"]) for request in model.requests]
    assert not any("kind" in prompt.partition("tone:")[2] for prompt in prompts)
    assert {request.schema.title for request in model.requests if request.schema} == {"NewInputs"}
    plain = amplify("reply")
    spelt = amplify("reply", difficulty=None, steer=(), bands=3, embedder=Embedder(model="hash:256"))
    assert plain.recipe_key == spelt.recipe_key != amplify("reply", difficulty=MIX).recipe_key
    assert POLICY.recipe_key == POLICY.replace(clusters=None).recipe_key != POLICY.replace(clusters=2).recipe_key


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"difficulty": {"easy": 0.5}}, r"add up to 0\.5, expected 1 \(easy 0\.5\)"),
        ({"difficulty": {"simple": 1.0}}, "difficulty"),
        ({"difficulty": {"easy": 1.5, "hard": -0.5}}, "add up to 1, expected 1|shares"),
        ({"labelled_by": Ask(model="openai/a")}, "has nothing to say"),
        ({"steer": ("colours",)}, "steer"),
    ],
)
def test_what_cannot_be_covered_says_why(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        amplify("reply", **fields)


@given(st.integers(0, 50), st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.integers(0, 99))
def test_what_is_shared_out_adds_up(number: int, weights: list[float], seed: int) -> None:
    shares = _split(number, weights, random.Random(seed))
    assert sum(shares) == number
    assert min(shares) >= 0
    total = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        exact = number * weight / total if total > 0 else number / len(weights)
        assert abs(share - exact) < 1 + 1e-6


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(1, 6))
def test_bands_cover_the_span_without_a_gap(lengths: list[int], number: int) -> None:
    span = Band(max(1, min(lengths) // 2), max(lengths) * 2)
    found = _bands(lengths, number, span)
    assert 1 <= len(found) <= number
    assert (found[0].shortest, found[-1].longest) == span
    assert all(left.longest + 1 == right.shortest for left, right in pairwise(found))
    assert all(band.shortest <= band.longest for band in found)
