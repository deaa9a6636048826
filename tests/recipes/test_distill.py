"""The whole road, from three sums to a folder that a person can use, with a tiny student in seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import ModelError, RecipeError, StoreError
from stillhouse.core.events import Event
from stillhouse.core.lineage import Ancestor, trace
from stillhouse.core.names import Names
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.store import Store
from stillhouse.recipes.changes import Changes
from stillhouse.recipes.distill import DistillResult, delivery, distill
from stillhouse.recipes.distillation import NAMES, Distillation, distillation
from stillhouse.recipes.file import load_recipe
from stillhouse.recipes.scratch import Scratch
from stillhouse.text.ngrams import ngrams
from stillhouse.train.finetune import Finetune
from tests.generate.sums import INSTRUCTION, SEEDS, TEACHER, Sum
from tests.generate.teachers import reply
from tests.generate.test_amplify_coverage import headstrong

TINY = Scratch(vocab_size=320, hidden=16, layers=1, heads=2)
HELD_OUT = [{"input": f"Quinn holds {n} and takes {n} more", "output": {"sum": 2 * n}} for n in range(20, 32)]
SEED_ROWS = [dict(row) for row in SEEDS.data or ()]
"""Two epochs of a student of a few thousand parameters: it learns nothing, and every part of the road is walked."""


def odd_ones_out(row: Mapping[str, Any]) -> bool | str:
    return json.loads(row["output"])["sum"] % 2 == 0 or "the sum is odd"


def arguments(**changes: Any) -> dict[str, Any]:
    return {
        "seed": SEED_ROWS,
        "instruction": INSTRUCTION,
        "teacher": f"{TEACHER}:reply",
        "student": TINY,
        "augment_factor": 12,
        "response_model": Sum,
        "held_out": HELD_OUT,
        "max_tokens": 8,
        "finetune": {"epochs": 2.0, "batch_size": 4},
        "seeds_only": {"epochs": 2.0},
        **changes,
    }


def run(output: Path, events: list[Event] | None = None, **changes: Any) -> DistillResult:
    listener = None if events is None else events.append
    return distill(
        "sums", output=output, options=Options(device="cpu", threads=1), on_event=listener, **arguments(**changes)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DistillResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetune, "isolated", False)  # saves the seconds that two new processes take to import torch
        return run(tmp_path_factory.mktemp("distil"), verify=odd_ones_out)


def test_the_folder_holds_what_is_promised_as_links_into_the_store(made: DistillResult) -> None:
    found = {path.name: path.is_symlink() for path in made.folder.iterdir()}
    assert found == {
        "traces_cot.jsonl": True,
        "traces_amplified.jsonl": True,
        "task_policy.json": True,
        "metrics.json": True,
        "report.html": True,
        "model": True,
        "recipe.yaml": False,
        "asking.json": False,
    }
    asking = json.loads((made.folder / "asking.json").read_text())
    assert asking["system"] == made.system
    assert set(asking) == {"system", "answer_after"}
    for path in made.folder.iterdir():
        assert path.exists()
        assert not path.is_symlink() or not path.readlink().is_absolute()


def test_the_files_hold_seeds_rows_policy_and_scores(made: DistillResult) -> None:
    traces = [json.loads(line) for line in (made.folder / "traces_cot.jsonl").read_text().splitlines()]
    assert [(row["thinking"], row["output"]) for row in traces][:1] == [("add 3 and 4", '{"sum": 7}')]
    rows = [json.loads(line) for line in (made.folder / "traces_amplified.jsonl").read_text().splitlines()]
    assert 5 < len(rows) < 36
    assert all(odd_ones_out(row) is True for row in rows)
    assert json.loads((made.folder / "task_policy.json").read_text())["input_length_range"]["shortest"] == 9
    assert json.loads((made.folder / "metrics.json").read_text()) == made.metrics
    assert "<html" in made.report.read_text()


def test_the_student_is_compared_with_itself_the_seeds_and_the_nearest_seed(made: DistillResult) -> None:
    assert made.metrics["models"] == ["before", "seeds only", "nearest seed", "after"]
    assert made.metrics["num_items"] == len(HELD_OUT)
    assert set(made.metrics["scores"]["after"]) == {"exact match (json)", "JSON fields"}
    assert {pair["before"] for pair in made.metrics["pairs"]} == {"before", "seeds only", "nearest seed"}
    assert {entry["column"] for entry in made.metrics["slices"]} == {"familiar"}
    assert made.summary.startswith("12 held-out rows")
    assert sum(band["rows"] for band in made.coverage["lengths"].values()) == 36
    assert made.cost == 0.0


def test_transformers_loads_the_model_and_it_replies(made: DistillResult) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(made.model_path))
    tokenizer = AutoTokenizer.from_pretrained(str(made.model_path))
    assert model.config.vocab_size == len(tokenizer) <= 320
    assert tokenizer.apply_chat_template([{"role": "user", "content": "1 and 1"}], tokenize=False)
    replies = made.generate(["1 and 1", "2 and 2"], max_tokens=5)
    assert len(replies) == 2
    assert all(isinstance(reply, str) for reply in replies)


def test_a_question_too_long_for_the_student_is_named(made: DistillResult) -> None:
    with pytest.raises(ModelError, match="no reply to '1 and 1 and"):
        made.generate(["1 and " * 2000])


def test_one_text_is_no_list_of_inputs_and_a_device_is_the_one_asked_for(made: DistillResult) -> None:
    with pytest.raises(RecipeError, match="expected a list"):
        made.generate("two lattes")
    made.generate(["1 and 1"], max_tokens=1, device="cpu")
    with pytest.raises(RecipeError, match="quantum"):
        made.generate(["1 and 1"], max_tokens=1, device="quantum")


def test_the_recipe_file_makes_the_same_result(made: DistillResult) -> None:
    loaded = load_recipe(made.folder / "recipe.yaml")
    steps = distillation(**arguments(verify=odd_ones_out, title="sums"))
    assert loaded.name == "sums"
    assert loaded.output is not None
    assert loaded.output.resolve() == made.folder.parent.resolve()
    assert loaded.step.recipe_key == delivery(steps).recipe_key


def test_the_same_call_makes_nothing_and_asks_nothing(made: DistillResult) -> None:
    events: list[Event] = []
    again = run(made.folder.parent, events, verify=odd_ones_out)
    kinds = Counter(event.kind for event in events)
    assert kinds["step.started"] == kinds["call.done"] == 0
    assert (again.metrics, again.cost, again.model_path) == (made.metrics, made.cost, made.model_path)


def test_the_name_keeps_everything_from_the_seeds_on(made: DistillResult) -> None:
    store = Store(made.folder.parent)
    records = {record["build_key"]: record for record in store.records()}
    waiting = [Names(store).need("sums").build_key]
    reached = set()
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += [entry["build_key"] for entry in records[key]["inputs"]]
    tags = Counter(records[key]["tag"].partition("/")[0] for key in reached)
    assert tags["train.finetune"] == 2
    assert {"rows.import", "generate.amplify", "generate.answer", "evaluate.compare", "publish.report"} <= set(tags)
    assert (made.folder / "report.html").resolve().parents[1].name in reached


def test_a_training_row_is_traced_to_calls_and_seeds(made: DistillResult) -> None:
    steps = distillation(**arguments(verify=odd_ones_out, title="sums"))
    with Session(made.folder.parent) as session:
        row = next(row for row in session.run(steps.train) if row.get("agreement") is not None)
        seeds = {entry["_id"] for entry in session.run(steps.seeds)}
        found = trace(session.store, row["_id"])
    behind = list(ancestors(found.origin))
    assert {ancestor.row["_id"] for ancestor in behind} & seeds
    assert {ancestor.tag for ancestor in behind} >= {"generate.amplify/1", "generate.answer/1", "rows.import/1"}
    assert len({call for ancestor in behind for call in ancestor.calls}) >= 2
    assert "train.finetune/2" in {record["tag"] for record in found.used_by}


def ancestors(one: Ancestor) -> Iterator[Ancestor]:
    yield one
    for parent in one.parents:
        yield from ancestors(parent)


def test_seeds_that_stand_in_the_test_set_are_refused(tmp_path: Path) -> None:
    known = {"input": "ANN has 3, and gets 4!", "output": {"sum": 7}}
    with pytest.raises(RecipeError, match="1 rows of the test set stand among the seeds"):
        run(tmp_path, held_out=[*HELD_OUT, known])


def test_without_a_test_set_some_rows_are_held_out_and_the_report_says_so(session: Session) -> None:
    steps = distillation(**arguments(held_out=None))
    train, test = session.run([steps.train, steps.held_out])
    assert len(list(test)) >= 1  # type: ignore[call-overload]
    wordings = [{row["input"] for row in rows} for rows in (train, test)]  # type: ignore[attr-defined]
    assert not wordings[0] & wordings[1]
    seeds = {row["input"] for row in SEED_ROWS}
    assert seeds <= wordings[0]
    assert not any(overlap(seed, item) >= 0.6 for seed in seeds for item in wordings[1])
    assert "held out" in str(getattr(steps.report, "description", ""))


def overlap(left: str, right: str) -> float:
    """Jaccard index of three-word n-grams."""
    first, second = ngrams(left, 3), ngrams(right, 3)
    return len(first & second) / len(first | second)


def test_rows_like_the_test_set_are_taken_out_of_training(session: Session) -> None:
    with_copies = [*HELD_OUT, {"input": "Ada has 500 and gets 600", "output": {"sum": 1100}}]
    steps = distillation(**arguments(held_out=with_copies))
    made = session.run(steps.amplified)
    copied = made.head(1)[0]["input"]
    held_out = [*HELD_OUT, {"input": copied, "output": {"sum": 0}}]
    train = session.run(distillation(**arguments(held_out=held_out)).train)
    assert copied not in {row["input"] for row in train}


def test_a_pretrained_student_is_told_the_task_and_learns_to_reason(
    made: DistillResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Finetune, "isolated", False)
    steps = distillation(
        **arguments(student=str(made.model_path), finetune={"steps": 1, "seq_len": 512}, seeds_only={"epochs": 1.0})
    )
    assert (steps.tokenizer, steps.system) == (None, INSTRUCTION)
    with Session(tmp_path, options=Options(device="cpu", threads=1)) as session:
        after = session.run(steps.after)
        assert (after.path / "adapter_config.json").exists()
        (messages,) = [step for step in conversations(steps.after) if step.tag == "rows.to_messages/1"][:1]
        row = session.run(messages).head(1)[0]
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][0]["content"] == INSTRUCTION
    assert row["messages"][2]["content"].startswith("<think>\nadd ")


def conversations(step: Any) -> list[Any]:
    return [inner for outer in step.inputs() for inner in outer.inputs()]


def test_an_ask_is_taken_as_it_is_and_a_name_is_asked_in_three_ways() -> None:
    ask = Ask(model=f"{TEACHER}:reply", temperature=0.3)
    steps = distillation(**arguments(teacher=ask))
    assert {by_of(step).temperature for step in asking(steps)} == {0.3}
    assert [by_of(step).temperature for step in asking(distillation(**arguments()))] == [0.7, 0.0, 1.0, 0.0]
    assert by_of(distillation(**arguments(samples=3)).answered).temperature == 0.7


def asking(steps: Distillation) -> list[Any]:
    return [steps.traces, steps.policy, steps.amplified, steps.answered]


def by_of(step: Any) -> Ask:
    found: Ask = step.by
    return found


def test_single_steps_can_be_changed_by_name() -> None:
    steps = distillation(**arguments(amplify={"per_call": 7}, dedup={"threshold": 0.5}, policy={"examples": 2}))
    assert (steps.amplified.per_call, steps.policy.examples) == (7, 2)  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=r"nothing called `amplfy` to change\n  Did you mean `amplify`\?"):
        distillation(**arguments(amplfy={"per_call": 7}))
    with pytest.raises(RecipeError, match=r"`per_cal` is not a field of `Amplify`\n  Did you mean `per_call`\?"):
        distillation(**arguments(amplify={"per_cal": 7}))
    with pytest.raises(RecipeError, match="expected the fields of a step by name"):
        Changes("distillation", NAMES, {"amplify": 5})


def test_what_new_inputs_cover_is_steered_by_plain_names() -> None:
    plain, mix = distillation(**arguments()), {"easy": 0.5, "hard": 0.5}
    steps = distillation(**arguments(difficulty=mix, steer=["patterns", "lengths"], clusters=2))
    assert steps.amplified.difficulty == mix  # type: ignore[attr-defined]
    assert steps.amplified.steer == ("patterns", "lengths")  # type: ignore[attr-defined]
    assert steps.policy.clusters == 2  # type: ignore[attr-defined]
    assert distillation(**arguments(steer="lengths")).amplified.steer == ("lengths",)  # type: ignore[attr-defined]
    assert (
        distillation(**arguments(difficulty=None, steer=(), clusters=None)).report.recipe_key == plain.report.recipe_key
    )
    with pytest.raises(RecipeError, match="the shares add up to 0.7"):
        distillation(**arguments(difficulty={"easy": 0.7}))
    with pytest.raises(RecipeError, match="steer"):
        distillation(**arguments(steer="colours"))


def test_rows_that_say_what_they_are_go_on_to_the_student(session: Session) -> None:
    def writer(messages: Any, schema: Any, sample: int) -> str:
        return (
            headstrong(messages, schema, sample)
            if schema["title"] == "LabelledInputs"
            else reply(messages, schema, sample)
        )

    script("labelling", writer)
    mix = {"easy": 0.5, "medium": 0.5}
    ask = Ask(model="scripted:labelling")
    steps = distillation(**arguments(teacher=ask, difficulty=mix, steer=("lengths", "patterns"), clusters=2))
    made, train = session.run([steps.amplified, steps.train])
    coverage = made.record["facts"]["coverage"]
    assert {level: coverage["difficulty"][level]["reached"] for level in mix} == mix
    assert set(coverage) == {"lengths", "patterns", "difficulty", "clusters"}
    assert {"pattern", "difficulty", "cluster"} <= set(train.columns)  # type: ignore[attr-defined]


def test_a_training_may_be_bounded_by_steps() -> None:
    steps = distillation(**arguments(finetune={"steps": 9}, seeds_only={"steps": 5}))
    found = [(step.steps, step.epochs) for step in (steps.after, steps.seeds_only)]  # type: ignore[attr-defined]
    assert found == [(9, None), (5, None)]


def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be a name"):
        distill("../sums", output=tmp_path, **arguments())


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text("mine")
    with pytest.raises(StoreError, match="cannot be written"):
        run(tmp_path)


def test_an_endpoint_changes_where_the_teacher_is_asked_and_nothing_else() -> None:
    def asks(**more: Any) -> list[Ask]:
        steps = distillation(**arguments(teacher="lab/teacher", **more))
        return [steps.traces.by, steps.policy.by, steps.amplified.by, steps.answered.by]  # type: ignore[attr-defined]

    url = "http://localhost:8000/v1"
    assert [ask.endpoint for ask in asks(endpoint=url)] == [url] * 4
    assert [ask.replace(endpoint=None) for ask in asks(endpoint=url)] == asks()
    with pytest.raises(RecipeError, match="Put it into the `Ask`"):
        distillation(**arguments(teacher=Ask(model="lab/teacher"), endpoint=url))


def test_verify_is_a_function_of_a_row_or_of_a_row_and_its_output() -> None:
    def tag(verify: Any) -> str:
        return next(step.tag for step in distillation(**arguments(verify=verify)).curated.inputs()[:1])

    assert tag(odd_ones_out) == "rows.filter/1"
    assert tag(lambda row, output: True) == "curate.keep/1"
    assert tag(f"{__name__}:odd_ones_out") == "rows.filter/1"
    with pytest.raises(RecipeError, match=r"Write it as `def verify\(row\)` or `def verify\(row, reply\)`"):
        distillation(**arguments(verify=lambda: True))


def test_a_recipe_with_a_lambda_runs_and_its_file_says_why_it_is_not_written(tmp_path: Path) -> None:
    steps = distillation(**arguments(verify=lambda row: True))
    from stillhouse.recipes.distill import _write_recipe

    _write_recipe(tmp_path, "sums", delivery(steps))
    assert (tmp_path / "recipe.yaml").read_text().startswith("# This recipe cannot be written into a file: ")
