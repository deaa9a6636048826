from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.artifact import Files, Rows
from stillhouse.core.errors import RecipeError
from stillhouse.core.files import InputFile
from stillhouse.core.part import Part
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.step import KeyBook, Step
from tests.core import helpers
from tests.core.steps import Apply, Copied, Halves, Join, Literal, Numbers, Suffix, Trained, Upper


class FromFile(Step[Rows], tag="test.from_file/1"):
    path: InputFile


def test_fields_at_their_default_do_not_count() -> None:
    numbers = Numbers(count=3)
    assert Upper(rows=numbers).recipe_key == Upper(rows=numbers, suffix=Suffix(text="!"), asynchronous=False).recipe_key
    assert Upper(rows=numbers).recipe_key != Upper(rows=numbers, suffix=Suffix(times=2)).recipe_key
    assert Numbers(count=3).recipe_key != Numbers(count=4).recipe_key


def test_two_classes_with_equal_fields_have_different_keys() -> None:
    rows = Numbers(count=1)
    assert len({step.recipe_key for step in (Upper(rows=rows), Halves(rows=rows), Copied(rows=rows))}) == 3


def test_a_step_is_frozen_all_the_way_down() -> None:
    data: list[dict[str, Any]] = [{"tags": ["a", "b"]}]
    step = Literal(rows=data)
    key = step.recipe_key
    data[0]["tags"].append("c")
    assert step.recipe_key == key
    with pytest.raises(TypeError, match="cannot be changed"):
        step.rows[0]["tags"] = ()
    with pytest.raises(Exception, match="frozen"):
        step.rows = ()  # type: ignore[misc]


def test_a_diamond_twenty_five_deep_costs_little() -> None:
    step: Step[Rows] = Numbers(count=1)
    for _ in range(25):
        step = Join(tables=(step, step))
    assert len(step.recipe_key) == 32
    assert len({step, step.replace()}) == 1
    assert from_table(to_table(step)) == step


def test_inputs_are_found_through_parts_and_containers_each_once() -> None:
    one, two = Numbers(count=1), Numbers(count=2)
    assert Join(tables=(one, two, one)).inputs() == (one, two)
    assert Halves(rows=one).even.inputs() == (Halves(rows=one),)


def test_a_file_counts_by_content_not_by_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    (tmp_path / "b.txt").write_text("same")
    first, second = FromFile(path=tmp_path / "a.txt"), FromFile(path=tmp_path / "b.txt")
    assert first.recipe_key == second.recipe_key
    (tmp_path / "b.txt").write_text("other")
    assert first.recipe_key != second.recipe_key


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text("")
    with pytest.raises(RecipeError, match=r"no file .*seed\.jsonl`\n  Did you mean .*seeds\.jsonl"):
        _ = FromFile(path=tmp_path / "seed.jsonl").recipe_key


def test_wrong_fields_say_which_and_suggest() -> None:
    rows = Numbers(count=1)
    with pytest.raises(RecipeError, match="`sufix` is not a field of `Upper`\n  Did you mean `suffix`"):
        Upper(rows=rows, sufix=Suffix())  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match="`rows` is missing"):
        Upper()  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match="expected a step that makes Rows, but `Copied` makes Files"):
        Upper(rows=Copied(rows=rows))
    with pytest.raises(RecipeError, match=r"expected a step that makes Rows, not 'seeds\.jsonl'"):
        Upper(rows="seeds.jsonl")


def test_tags_are_checked_and_belong_to_one_class() -> None:
    with pytest.raises(RecipeError, match="is not a tag"):
        type("Bad", (Part,), {}, tag="Bad")
    with pytest.raises(RecipeError, match="belongs to"):
        type("Other", (Part,), {}, tag="test.suffix/1")

    class Untagged(Step[Files]):
        pass

    with pytest.raises(RecipeError, match="has no tag"):
        Untagged()


def test_a_function_field_counts_by_source_and_takes_a_name() -> None:
    rows = Numbers(count=1)
    assert (
        Apply(rows=rows, function=helpers.adder(1)).recipe_key != Apply(rows=rows, function=helpers.adder(2)).recipe_key
    )
    named = Apply(rows=rows, function="tests.core.helpers:direct")
    assert named == Apply(rows=rows, function=helpers.direct)


def test_recipe_and_build_keys_differ_and_the_build_key_follows_content() -> None:
    rows = Numbers(count=1)
    step = Upper(rows=rows)
    book = KeyBook()
    assert book.build(step, lambda _: "a") != book.build(step, lambda _: "b")
    assert book.build(step, lambda _: "a") != step.recipe_key


def test_steps_are_written_as_a_table_and_read_back_equal() -> None:
    numbers = Numbers(count=3)
    halves = Halves(rows=numbers)
    step = Join(
        tables=(
            Upper(rows=halves.even, suffix=Suffix(text="$?")),
            halves.odd,
            Apply(rows=numbers, function=helpers.direct),
        )
    )
    table = to_table(step)
    assert len(table["nodes"]) == 7
    assert from_table(table) == step
    assert from_table(table).recipe_key == step.recipe_key


def test_a_table_with_mistakes_is_explained() -> None:
    table = to_table(Upper(rows=Numbers(count=3)))
    nodes = table["nodes"]
    for broken, message in [
        ({"upper": {**nodes["upper"], "rows": "$numbrs"}, "numbers": nodes["numbers"]}, "Did you mean `\\$numbers`"),
        ({"upper": {**nodes["upper"], "sufix": 1}, "numbers": nodes["numbers"]}, "in `upper`: .*Did you mean `suffix`"),
        ({"upper": {"rows": "$numbers"}, "numbers": nodes["numbers"]}, "does not say what it uses"),
        ({"upper": {**nodes["upper"], "rows": "$upper"}}, "in a circle"),
    ]:
        with pytest.raises(RecipeError, match=f"(?s){message}"):
            from_table({"nodes": broken, "result": "$upper"})


def test_a_lambda_cannot_be_written_into_a_recipe() -> None:
    with pytest.raises(RecipeError, match="another process"):
        to_table(Apply(rows=Numbers(count=1), function=lambda row: row))


def test_what_a_step_makes_is_known_from_its_class() -> None:
    assert (Upper.makes(), Copied.makes(), Trained.makes().kind) == (Rows, Files, "Model")
