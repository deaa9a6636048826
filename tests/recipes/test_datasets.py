"""The recipes of data sets, end to end with a scripted model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import Scripted, script
from stillhouse.core.lineage import trace
from stillhouse.core.session import Session
from stillhouse.recipes.datasets import (
    attributed_texts,
    augmented_rows,
    cleaned_rows,
    instruction_pairs,
    question_answers,
    self_rewarded_pairs,
    translated_rows,
)

ANIMALS = {
    "otter": "Otters hold hands while they sleep, so that the river does not carry them apart at night.",
    "crow": "Crows remember the faces of people who were unkind to them, and tell their young about them.",
    "bee": "A bee that found flowers dances a figure of eight that tells the others how far they are.",
    "eel": "No one has ever seen an eel spawn; they swim thousands of miles to a warm sea for it.",
}
ESSAY = (
    "The keeper of the park has walked the same path every morning for thirty years, and he still finds something new. "
    "In spring he counts nests along the river; when summer comes, children help him to look for frogs below the old "
    "bridge. He writes what they see into a book that anybody may read at the gate. Last year, for the first time, an "
    "otter had come back with two young, which made the front page of our small newspaper. People asked him what they "
    "could do for animals like these. Leave some corners of your garden alone, he told them, and be patient."
)
CORPUS = [{"text": text, "name": name} for name, text in ANIMALS.items()]


def told(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1]["content"])


def yes_or_no(answer: bool) -> str:
    return json.dumps({"reason": "so it is", "answer": "yes" if answer else "no"})


def run(folder: Path, teacher: Callable[..., Any], recipe: Callable[[Ask], Any]) -> tuple[Session, Any, Scripted]:
    scripted = script("datasets", teacher)
    session = Session(folder, track=False, progress=False)
    with session:
        made = session.run(recipe(Ask(model="scripted:datasets", temperature=0.7)), name="made")
        before = scripted.num_calls
        assert session.run(recipe(Ask(model="scripted:datasets", temperature=0.7))).digest == made.digest
        assert scripted.num_calls == before
    return session, made, scripted


def test_texts_for_each_combination_of_attributes(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        length, product = re.findall(r"Write a (\w+) review of a (\w+)", told(messages))[0]
        return f"A {length} word on how the {product} served us well in {product} weather and beyond {sample}."

    attributes = {"length": ("short", "long"), "product": ("kettle", "tent", "bicycle")}
    instruction = "Write a {{ length }} review of a {{ product }}."
    _, made, scripted = run(tmp_path, teacher, lambda by: attributed_texts(instruction, attributes, by))
    pairs = {(length, product) for length in attributes["length"] for product in attributes["product"]}
    assert {(row["length"], row["product"]) for row in made} == pairs
    assert scripted.num_calls == 6


def test_paraphrases_stand_beside_their_originals_under_the_same_labels(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        text = told(messages).rpartition("\n")[2]
        return text if sample == 0 else " ".join(reversed(text.split()))

    rows = [{"text": text, "label": name} for name, text in ANIMALS.items()]
    _, made, _ = run(tmp_path, teacher, lambda by: augmented_rows(rows, by, variants=2))
    labels = [row["label"] for row in made]
    assert labels == [*ANIMALS, *ANIMALS]  # the paraphrase that repeats its text is a duplicate
    assert len(list(made.dropped())) == 4
    assert set(made.columns) == {"text", "label"}


def test_cleaning_redacts_drops_with_reasons_and_asks_nobody(tmp_path: Path) -> None:
    good = f"Write to ada@example.org about it. {ESSAY}"
    rows = [{"text": good}, {"text": "buy buy buy"}, {"text": good}]
    with Session(tmp_path, track=False, progress=False) as session:
        made = session.run(cleaned_rows(rows))
    (row,) = made
    assert "[email]" in row["text"]
    assert "ada@" not in row["text"]
    assert [entry["reason"] for entry in made.dropped()] != []


def test_instructions_for_texts_that_people_wrote(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        name = next(name for name, text in ANIMALS.items() if text in told(messages))
        if schema is not None and "score" in schema["properties"]:
            return json.dumps({"reason": "r", "score": 2 if name == "eel" else 5})
        text = f"Tell me about the {name}."
        return json.dumps({"instruction": text}) if schema is not None else text

    _, made, _ = run(tmp_path, teacher, lambda by: instruction_pairs(CORPUS, by))
    assert {row["input"]: row["output"] for row in made} == {
        f"Tell me about the {name}.": text for name, text in ANIMALS.items() if name != "eel"
    }


def test_a_model_judges_its_own_answers(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        text = told(messages)
        if schema is None:
            return f"answer of length {'x' * (sample + 1)}"
        first, second = (len(part) for part in re.findall(r"answer of length (x+)", text)[:2])
        choices = schema["properties"]["winner"]["enum"]
        return json.dumps({"reason": "longer is better", "winner": choices[0] if first > second else choices[1]})

    prompts = [{"instruction": "Say something."}, {"instruction": "Say more."}]
    _, made, _ = run(tmp_path, teacher, lambda by: self_rewarded_pairs(prompts, by, samples=3))
    assert [(row["chosen"], row["rejected"]) for row in made] == [("answer of length xxx", "answer of length x")] * 2


def test_translations_are_kept_where_the_way_back_says_the_same(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        text = told(messages)
        if schema is not None:
            first, second = re.findall(r"First: (.*?)\n\nSecond: (.*?)\n", text + "\n", re.DOTALL)[0]
            return yes_or_no(first == second)
        body = text.rpartition("\n\n")[2]
        if "into German" in text:
            return f"<de>{body}</de>"
        return body.removeprefix("<de>").removesuffix("</de>").replace("No one", "Someone")

    _, made, _ = run(tmp_path, teacher, lambda by: translated_rows(CORPUS, by, language="German"))
    assert [row["name"] for row in made] == ["otter", "crow", "bee"]
    assert all(row["translation"] == f"<de>{row['text']}</de>" for row in made)


def test_questions_whose_passage_is_found_and_supports_the_answer(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        text = told(messages)
        name = next(name for name, passage in ANIMALS.items() if passage in text)
        if "question" not in schema["properties"]:
            return yes_or_no(name != "crow")
        question = (
            "What is this?" if name == "eel" else f"Why do {ANIMALS[name].split()[0]} {ANIMALS[name].split()[1]}?"
        )
        return json.dumps({"question": question, "answer": ANIMALS[name]})

    session, made, _ = run(tmp_path, teacher, lambda by: question_answers(CORPUS, by, k=1))
    assert [row["name"] for row in made] == ["otter", "bee"]
    assert made.columns[:2] == ["passage", "name"]
    origin = trace(session.store, made.head(1)[0]["_id"]).origin
    while origin.parents:
        origin = origin.parents[0]
    assert origin.row["name"] == "otter"


def test_a_recipe_file_names_them(tmp_path: Path) -> None:
    from stillhouse.recipes.file import load_recipe

    (tmp_path / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    (tmp_path / "questions.yaml").write_text(
        "recipe: stillhouse.recipes.datasets:question_answers\n"
        "with:\n  corpus: {uses: rows.import, path: passages.jsonl, require: [text]}\n"
        "  by: openai/gpt-4o-mini\n  k: 3\n"
    )
    step = load_recipe(tmp_path / "questions.yaml").step
    assert step.tag.startswith("curate.dedup/")
