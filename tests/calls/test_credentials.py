"""Keys come from the environment or `.env`, and go nowhere."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.events import Event
from tests.calls.helpers import asking, prompts, with_service
from tests.calls.server import MisbehavingServer

SECRET = "sk-4f9d-never-to-be-seen"


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# keys\nexport A_KEY='from file'\nB_KEY=from file # a remark\n\nnonsense\nC_KEY=\n", encoding="utf-8"
    )
    monkeypatch.setenv("A_KEY", "from environment")

    found = Credentials.from_environment(file)

    assert (found.get("A_KEY"), found.get("B_KEY"), found.get("C_KEY")) == ("from environment", "from file", None)


def test_a_missing_file_is_no_trouble(tmp_path: Path) -> None:
    assert Credentials.from_environment(tmp_path / "none").get("SURELY_NOT_SET_ANYWHERE") is None


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_key_is_a_missing_one(value: str) -> None:
    with pytest.raises(ModelError, match="`openai` needs an API key, and `OPENAI_API_KEY` is not set") as caught:
        Credentials({"OPENAI_API_KEY": value}).require("OPENAI_API_KEY", "openai")

    assert caught.value.kind == "credentials"


def test_a_key_that_no_header_can_hold_is_said() -> None:
    with pytest.raises(ModelError, match="the key in `A_KEY` holds a line break") as caught:
        Credentials({"A_KEY": f"{SECRET}\nA_KEY=x"}).require("A_KEY", "openai")
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("KEY=schlüssel".encode("latin-1"))
    with pytest.raises(RecipeError, match="is not UTF-8"):
        Credentials.from_environment(tmp_path / ".env")


def test_secrets_are_in_no_text_and_do_not_travel() -> None:
    credentials = Credentials({"OPENAI_API_KEY": SECRET})

    assert SECRET not in repr(credentials) + str(credentials) + f"{credentials!r}"
    with pytest.raises(TypeError, match="do not travel"):
        pickle.dumps(credentials)


def test_a_key_that_was_used_is_nowhere_on_disk_nor_in_events(tmp_path: Path) -> None:
    events: list[Event] = []
    with MisbehavingServer(key=SECRET) as server:

        async def work(service: CallService) -> None:
            await service.ask_many(asking(server), prompts(["a", "b"]))

        endpoints = {server.url: Endpoint(server.url, api_key="TEACHER_KEY")}
        credentials = Credentials({"TEACHER_KEY": SECRET})
        with_service(tmp_path, work, events, endpoints=endpoints, credentials=credentials)

    assert server.num_calls == 2
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in repr(events)
