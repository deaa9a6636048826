"""Models of this machine as providers: a folder, or what a step made."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.local import LocalModel
from stillhouse.calls.request import Prompt, RequestForm, Sampling
from stillhouse.calls.service import CallService
from stillhouse.core.artifact import Model
from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.models.generate import Generator
from tests.calls.helpers import with_service
from tests.models.tiny import conversation, tiny_model, tiny_tokenizer

CONVERSATIONS = [conversation(number)[:1] for number in range(11)]
OPTIONS = Options(device="cpu", inference_batch=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return tiny_model(tmp_path_factory.mktemp("model"), tokenizer)


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
    "settings", [{"tools": ({"name": "weather"},)}, {"logprobs": 1}, {"effort": "low"}, {"structured": "native"}]
)
def test_what_a_local_model_does_not_do_is_said_and_not_left_out(
    tmp_path: Path, folder: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=f"local models know no `{next(iter(settings))}`"):
        with_service(tmp_path, lambda service: service.ask(local(folder).replace(**settings), "hello"), options=OPTIONS)
