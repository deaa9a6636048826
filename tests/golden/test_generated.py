"""What steps that ask make of a tiny table, and what they ask: rows with their ids, dropped and failed rows, requests.

The model is a script that fills in whatever schema it is given, from the words of the request. When one of these
changes, either the change was not meant, or the number in the step's tag has to be raised; then
`python -m tests.golden.test_generated` writes `generated.json` anew.
"""

from __future__ import annotations

import json
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

import stillhouse as sh
from stillhouse.calls.providers.scripted import Scripted, script
from stillhouse.calls.reply import ToolCall, own_reply
from stillhouse.calls.request import Request
from stillhouse.text.ngrams import words as words_of
from tests.golden.functions import weigh
from tests.golden.test_tables import ORDERS, made

FILE = Path(__file__).with_name("generated.json")
SCRIPT = "golden"
BY = sh.Ask(model=f"scripted:{SCRIPT}", temperature=1.0)
TEXTS = sh.Select(rows=ORDERS, columns=("input", "day"))
PERSONAS = sh.Import(data=[{"persona": "a baker who counts in dozens"}, {"persona": "a judge of coffee"}], require=())
WORDS = words_of("amber birch cedar delta ember fable grove heron inlet jetty knoll larch maple nadir onset pearl")
SAID = {
    "type": "object",
    "properties": {"word": {"type": "string"}, "number": {"type": "integer"}},
    "required": ["word", "number"],
}


def words(text: str, number: int = 7) -> str:
    """Words drawn from a text, whatever the process."""
    digest = blake2b(text.encode()).digest()
    return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:number])


def filled(schema: dict[str, Any], text: str) -> Any:
    """A value that follows a schema, drawn from a text."""
    kind = schema.get("type")
    if kind == "object":
        return {name: filled(inner, f"{text} {name}") for name, inner in schema["properties"].items()}
    if kind == "array":
        return [filled(schema["items"], f"{text} {place}") for place in range(3)]
    if kind == "boolean":
        return "equal" not in text and len(text) % 3 == 0
    return len(text) if kind == "integer" else words(text)


def reply(messages: list[dict[str, Any]], schema: dict[str, Any] | None, sample: int) -> Any:
    text = json.dumps([messages, sample])
    if schema is not None:
        return json.dumps(filled(schema, text))
    if "Weigh" in text and '"tool"' not in text:
        return own_reply("", "tools", tool_calls=[ToolCall("x", "weigh", {"what": words(text, 1), "grams": 5})])
    return words(text, 4)


STEPS: dict[str, sh.Step[sh.Rows]] = {
    step.tag + suffix: step
    for suffix, step in [
        ("", sh.Prompt(rows=TEXTS, by=BY, template="Shout: {{ input }}")),
        (
            " many",
            sh.Prompt(
                rows=sh.Take(rows=TEXTS, num=2),
                by=BY,
                template={"a": "Say {{ day }}.", "b": "Ask {{ day }}."},
                system="On {{ day }}",
                samples=2,
                response=SAID,
                unpack=True,
            ),
        ),
        ("", sh.Rewrite(rows=TEXTS, by=BY, how="As of {{ day }}.", input="input")),
        ("", sh.ProcessWithPrompt(rows=TEXTS, by=BY, instruction="Shorten it.", input="input")),
        (
            "",
            sh.FewShot(rows=TEXTS, by=BY, examples=ORDERS, choose="random", tokens=70, instruction="Count."),
        ),
        ("", sh.DataFromPrompt(by=BY, instruction="Write an order.", num=3)),
        (
            "",
            sh.DataFromAttributedPrompt(
                by=BY, instruction="A {{ size }} cup.", attributes={"size": ["S", "L"]}, each=2, response=SAID
            ),
        ),
        ("", sh.Evolve(rows=TEXTS, by=BY, input="input", generations=2, answers=True)),
        ("", sh.SelfInstruct(rows=TEXTS, by=BY, input="input", num=4, per_call=3, window=2, classify=True)),
        ("", sh.Magpie(by=BY, num=3, prefix="<|user|>", answers=True)),
        ("", sh.Converse(rows=TEXTS, by=BY, opening="{{ input }}", scenario="It is {{ day }}.", turns=2)),
        ("", sh.ToolTraces(rows=sh.Import(data=[{"instruction": "Weigh it."}], require=()), by=BY, tools=(weigh,))),
        ("", sh.ToolTasks(by=BY, tools=(weigh,), num=4, per_call=2)),
        ("", sh.Backtranslate(rows=TEXTS, by=BY, input="input")),
        ("", sh.TextToPersona(rows=TEXTS, by=BY, input="input")),
        ("", sh.PersonaToPersona(rows=PERSONAS, by=BY, each=2)),
        ("", sh.PersonaPrompt(rows=PERSONAS, by=BY, kinds=("math", "tool"))),
    ]
}


def whole(session: sh.Session, step: sh.Step[sh.Rows], asked: Scripted) -> dict[str, Any]:
    """All that a step made, and what it asked."""
    found = made(session, step)
    # What calls are kept under has golden files of its own: here it counts how many made a row.
    found["rows"] = [{**row, "_calls": len(row["_calls"])} for row in found["rows"]]
    return {**found, "asked": sorted(digest(request) for request in asked.requests)}


def digest(request: Request) -> str:
    """Of the words alone: keys of calls have golden files of their own."""
    shape = None if request.schema is None else request.schema.form
    told = [request.messages, shape, request.sample, [tool["name"] for tool in request.extras.tools]]
    return blake2b(json.dumps(told).encode(), digest_size=12).hexdigest()


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_asks_and_makes_what_it_did(session: sh.Session, name: str) -> None:
    assert whole(session, STEPS[name], script(SCRIPT, reply)) == json.loads(FILE.read_text())[name]


def test_every_sample_makes_rows() -> None:
    known = json.loads(FILE.read_text())
    assert [name for name in STEPS if not known[name]["rows"]] == []


if __name__ == "__main__":
    everything = {}
    for key, one in STEPS.items():
        with tempfile.TemporaryDirectory() as folder, sh.Session(folder, progress=False, track=False) as opened:
            everything[key] = whole(opened, one, script(SCRIPT, reply))
    FILE.write_text(json.dumps(everything, indent=1) + "\n")
