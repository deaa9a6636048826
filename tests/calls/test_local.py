"""Models of this machine as providers: a folder, or what a step made."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.local import LocalModel
from stillhouse.calls.request import Extras, Prompt, RequestForm, Sampling
from stillhouse.calls.service import CallService
from stillhouse.core.artifact import Model
from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.models.generate import Generator
from stillhouse.text.schema import Schema
from tests.calls.helpers import with_service
from tests.models.tiny import conversation, tiny_model, tiny_tokenizer

CONVERSATIONS = [conversation(number)[:1] for number in range(11)]
OPTIONS = Options(device="cpu", inference_batch=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return tiny_model(tmp_path_factory.mktemp("model"), tokenizer)


@pytest.fixture(scope="module")
def roomy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With room for a schema in words, of some 270 tokens."""
    tokenizer = tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return tiny_model(tmp_path_factory.mktemp("roomy"), tokenizer, max_position_embeddings=512)


def local(folder: Path, max_tokens: int = 110) -> Ask:
    return Ask(model=f"local:{folder}", max_tokens=max_tokens)


def texts(outcomes: list[Outcome]) -> list[str]:
    """The texts of answers and of cut replies: a model with random weights seldom stops."""
    return [outcome.text if isinstance(outcome, Answer) else f"{outcome.kind}: {outcome.raw}" for outcome in outcomes]


def expected(folder: Path, max_tokens: int = 110) -> list[str]:
    replies = Generator(folder, "cpu").replies(CONVERSATIONS, max_new_tokens=max_tokens)
    assert not any(isinstance(reply, RowFault) for reply in replies)
    return [
        reply.text if reply.finish == "stop" else f"cut: {reply.text or None}"
        for reply in replies
        if not isinstance(reply, RowFault)
    ]


def test_a_folder_replies_as_the_generator_does_with_tokens_counted(tmp_path: Path, folder: Path) -> None:
    async def work(service: CallService) -> tuple[list[Outcome], int, float]:
        outcomes = await service.ask_many(local(folder), [Prompt(turns) for turns in CONVERSATIONS])
        total = service.ledger.total()
        return outcomes, total.prompt_tokens, total.cost_usd

    outcomes, prompt_tokens, cost = with_service(tmp_path, work, options=OPTIONS)

    assert texts(outcomes) == expected(folder)
    assert prompt_tokens > len(CONVERSATIONS)
    assert cost == 0


def test_single_questions_of_one_moment_are_answered_as_a_batch(folder: Path) -> None:
    form = RequestForm({"model": "local"}, "local", Sampling(max_tokens=110), None, None)
    provider = LocalModel(folder, device="cpu", threads=None, batch=4)

    async def work() -> list[str]:
        replies = await asyncio.gather(*(provider.ask(form.request(turns)) for turns in CONVERSATIONS[:8]))
        await provider.close()
        return [reply.text if reply.finish == "stop" else f"cut: {reply.text or None}" for reply in replies]

    assert asyncio.run(work()) == expected(folder)[:8]
    assert provider.num_batches == 1


def test_a_second_run_loads_no_model(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    asked = [Prompt(turns) for turns in CONVERSATIONS]
    first = with_service(tmp_path / "calls", lambda service: service.ask_many(local(copy), asked), options=OPTIONS)
    for weights in folder.glob("*.safetensors"):
        assert (copy / weights.name).exists()

    async def again(service: CallService) -> tuple[list[Outcome], int]:
        outcomes = await service.ask_many(local(folder), asked)  # another place, the same content
        return outcomes, service.ledger.total().calls

    second, num_calls = with_service(tmp_path / "calls", again, options=OPTIONS)

    assert texts(second) == texts(first)
    assert num_calls == 0


def test_samples_at_a_temperature_differ_and_are_the_same_each_time(tmp_path: Path, folder: Path) -> None:
    ask = local(folder, 12).replace(temperature=1.0)
    asked = [Prompt(CONVERSATIONS[0], sample=sample) for sample in range(6)]

    first, second = (
        texts(with_service(tmp_path / name, lambda service: service.ask_many(ask, asked), options=OPTIONS))
        for name in ("one", "two")
    )

    assert first == second
    assert len(set(first)) > 1


def test_a_prompt_without_room_for_a_reply_costs_its_row(tmp_path: Path, folder: Path) -> None:
    asked = [Prompt("please " * 400), Prompt(CONVERSATIONS[0])]

    first, second = with_service(tmp_path, lambda service: service.ask_many(local(folder), asked), options=OPTIONS)

    assert isinstance(first, RowFault)
    assert first.kind == "too_long"
    assert texts([second]) == expected(folder)[:1]


def test_what_a_local_model_cannot_do_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match="sample by temperature alone"):
        with_service(tmp_path, lambda service: service.ask(local(folder).replace(top_p=0.5), "hello"), options=OPTIONS)


ORDER = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["size", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_knows_nothing_is_held_to_the_schema(
    tmp_path: Path, roomy_folder: Path, temperature: float
) -> None:
    by = local(roomy_folder).replace(structured="native", temperature=temperature)
    asked = [Prompt(turns, Schema(ORDER)) for turns in CONVERSATIONS[:4]]

    answers = with_service(tmp_path, lambda service: service.ask_many(by, asked), options=OPTIONS)

    assert all(isinstance(answer, Answer) and answer.repaired == "no" for answer in answers), answers
    assert {answer.value["size"] for answer in answers if isinstance(answer, Answer)} <= {"small", "large"}
    # Unless the recipe says so, nothing holds it, and what it writes is no JSON.
    unheld = local(roomy_folder, max_tokens=20).replace(temperature=temperature)
    (fault,) = with_service(tmp_path, lambda service: service.ask_many(unheld, asked[:1]), options=OPTIONS)
    assert isinstance(fault, RowFault)


def test_rows_that_are_held_and_rows_that_are_not_share_a_batch(folder: Path) -> None:
    generator = Generator(folder, "cpu")
    free = generator.replies(CONVERSATIONS[:2], max_new_tokens=30)
    mixed = generator.replies(CONVERSATIONS[:2], max_new_tokens=30, schemas=[None, {"enum": ["yes", "no"]}])
    assert mixed[0] == free[0]
    assert [reply.text for reply in mixed if not isinstance(reply, RowFault)][1] in ('"yes"', '"no"')


def test_what_no_grammar_can_say_is_checked_afterwards_or_refused(folder: Path) -> None:
    generator = Generator(folder, "cpu")
    (reply,) = generator.replies(CONVERSATIONS[:1], schemas=[{"enum": ["a", "b"], "not": {"const": "a"}}])
    assert not isinstance(reply, RowFault)
    assert reply.text in ('"a"', '"b"')
    with pytest.raises(ModelError, match="no reply can be held to this schema"):
        generator.replies(CONVERSATIONS[:1], schemas=[{"type": "string", "pattern": "(?=a)b"}])


def test_one_schema_that_no_grammar_can_say_stops_no_other_step(folder: Path) -> None:
    provider = LocalModel(folder, device="cpu", threads=None, batch=4)
    good, bad = (
        RequestForm({"model": "local"}, "local", Sampling(max_tokens=30), schema, None, Extras(structured="native"))
        for schema in (Schema({"enum": ["a", "b"]}), Schema({"type": "string", "pattern": "(?=a)b"}))
    )

    async def work() -> list[Any]:
        forms = (good, bad, good)
        asked = (provider.ask(form.request(turns)) for form, turns in zip(forms, CONVERSATIONS, strict=False))
        replies = await asyncio.gather(*asked, return_exceptions=True)
        await provider.close()
        return replies

    first, refused, last = asyncio.run(work())
    assert isinstance(refused, ModelError)
    assert refused.kind == "rejected"
    assert {first.text, last.text} <= {'"a"', '"b"'}


def test_a_missing_library_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(ModelError, match=r"needs the library `llguidance`\n  Run `pip install 'stillhouse\[guided\]'`"):
        Generator(folder, "cpu").replies(CONVERSATIONS[:1], schemas=[{"type": "integer"}])


class Copied(Step[Model], tag="test.copied_model/1"):
    """A model artifact with the files of a folder."""

    source: str

    def run(self, context: Context) -> None:
        shutil.copytree(self.source, context.folder, dirs_exist_ok=True)


def test_a_model_that_a_step_made_is_asked_through_its_session(tmp_path: Path, folder: Path) -> None:
    step = Copied(source=str(folder))
    with Session(tmp_path / "store", options=OPTIONS) as session:
        session.run(step)
        outcomes = session.wait_for(
            session.calls.ask_many(Ask(model=step, max_tokens=110), [Prompt(turns) for turns in CONVERSATIONS])
        )

    assert texts(outcomes) == expected(folder)


@pytest.mark.parametrize(
    "settings", [{"tools": ({"name": "weather"},)}, {"logprobs": 1}, {"effort": "low"}, {"structured": "tool"}]
)
def test_what_a_local_model_does_not_do_is_said_and_not_left_out(
    tmp_path: Path, folder: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=f"local models know no `{next(iter(settings))}`"):
        with_service(tmp_path, lambda service: service.ask(local(folder).replace(**settings), "hello"), options=OPTIONS)
