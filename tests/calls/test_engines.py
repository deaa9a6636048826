"""Models whose library runs in this process, and LiteLLM: our whole path, with a stand-in for the library itself."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.reply import ToolCall
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.recipes.settings import SessionSettings
from stillhouse.text.schema import Schema
from tests.calls.helpers import prompts, with_service
from tests.calls.server import MisbehavingServer
from tests.calls.stand_ins import litellm as fake_litellm
from tests.calls.stand_ins import llama_cpp as fake_llama_cpp
from tests.calls.stand_ins import put_in
from tests.calls.stand_ins import vllm as fake_vllm

SAID = Schema({"title": "Said", "type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]})
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {}}}


def asked(folder: Path, ask: Ask, prompts: list[Prompt], **settings: Any) -> list[Outcome]:
    return with_service(folder, lambda service: service.ask_many(ask, prompts), **settings)


def one(folder: Path, ask: Ask, prompt: Prompt | None = None, **settings: Any) -> Answer:
    (outcome,) = asked(folder, ask, [prompt or Prompt("hello")], **settings)
    assert isinstance(outcome, Answer), outcome
    return outcome


# vLLM


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake_vllm.loaded.clear()
    fake_vllm.batches.clear()
    put_in(monkeypatch, "vllm", fake_vllm, sampling_params=fake_vllm)
    return fake_vllm


def test_vllm_answers_many_at_once_and_is_loaded_once(tmp_path: Path, vllm: Any) -> None:
    engines = {"vllm:org/model": {"tensor_parallel_size": 2, "max_model_len": 4096}}
    ask = Ask(model="vllm:org/model", system="Be brief.", seed=5)

    found = asked(tmp_path, ask, prompts(f"q{number}" for number in range(600)), endpoints=engines)

    texts = [outcome.text for outcome in found if isinstance(outcome, Answer)]
    assert texts == [f"q{number} (s u, seed 5, None)" for number in range(600)]
    assert vllm.loaded == [{"model": "org/model", "tensor_parallel_size": 2, "max_model_len": 4096}]
    assert sum(vllm.batches) == 600
    assert max(vllm.batches) <= 256
    assert len(vllm.batches) < 10


def test_vllm_answers_those_together_that_are_asked_one_by_one(tmp_path: Path, vllm: Any) -> None:
    async def work(service: CallService) -> list[Answer]:
        ask = Ask(model="vllm:org/model")
        return await asyncio.gather(*(service.ask(ask, f"q{number}") for number in range(300)))

    found = with_service(tmp_path, work)

    assert [answer.text for answer in found] == [f"q{number} (u, seed None, None)" for number in range(300)]
    assert len(vllm.batches) < 30


def test_vllm_counts_tokens_and_costs_nothing(tmp_path: Path, vllm: Any) -> None:
    answer = one(tmp_path, Ask(model="vllm:org/model"))

    assert answer.usage == (7, len(answer.text), 3, 0, 0, 0)
    assert answer.cost_usd == 0.0
    assert one(tmp_path, Ask(model="vllm:org/model")) == answer._replace(cached=True)
    assert sum(vllm.batches) == 1


def test_vllm_keeps_to_a_schema_by_itself(tmp_path: Path, vllm: Any) -> None:
    answer = one(tmp_path, Ask(model="vllm:org/model"), Prompt("hello", SAID))

    assert (answer.value, answer.repaired) == ({"said": "hello"}, "no")


def test_vllm_is_left_all_the_room_where_none_is_named(tmp_path: Path, vllm: Any) -> None:
    assert one(tmp_path, Ask(model="vllm:org/model"), Prompt("a" * 100)).finish == "stop"
    (cut,) = asked(tmp_path, Ask(model="vllm:org/model", max_tokens=3), [Prompt("hello")])

    assert isinstance(cut, RowFault)
    assert (cut.kind, cut.raw) == ("cut", "hel")


def test_one_prompt_that_is_too_long_costs_its_row_and_not_its_batch(tmp_path: Path, vllm: Any) -> None:
    fine, long, *others = asked(
        tmp_path, Ask(model="vllm:org/model"), prompts(["b", "a" * 1000, *(f"q{number}" for number in range(254))])
    )

    assert isinstance(long, RowFault)
    assert long.kind == "too_long"
    assert all(isinstance(outcome, Answer) for outcome in (fine, *others))
    assert len(vllm.batches) < 30  # of 256 that came at once


def test_an_image_that_is_not_there_costs_its_row_and_not_its_batch(tmp_path: Path, vllm: Any) -> None:
    turns = [{"role": "user", "content": [{"type": "image", "image": "no/such.png"}]}]

    lost, fine = asked(tmp_path, Ask(model="vllm:org/model"), [Prompt(turns), Prompt("b")])

    assert isinstance(lost, RowFault)
    assert (lost.kind, isinstance(fine, Answer)) == ("error", True)


def test_vllm_takes_its_own_fields_and_those_of_the_template(tmp_path: Path, vllm: Any) -> None:
    extra = {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}

    answer = one(tmp_path, Ask(model="vllm:org/model", extra=extra, logprobs=2))

    assert answer.text == "hello (u, seed None, {'enable_thinking': False})"
    assert answer.logprobs is not None
    assert (answer.logprobs[0].token, answer.logprobs[0].logprob) == ("h", -0.5)
    assert answer.logprobs[0].top == (("h", -0.5), ("?", -3.0))


def test_what_vllm_does_not_do_without_a_server_is_said(tmp_path: Path, vllm: Any) -> None:
    with pytest.raises(ModelError, match="takes no tools"):
        one(tmp_path, Ask(model="vllm:org/model", tools=(TOOL,)))
    with pytest.raises(ModelError, match="cannot be asked for JSON by `tool`"):
        one(tmp_path, Ask(model="vllm:org/model", structured="tool"), Prompt("hello", SAID))


# llama.cpp


@pytest.fixture
def gguf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    fake_llama_cpp.loaded.clear()
    fake_llama_cpp.asked.clear()
    put_in(monkeypatch, "llama_cpp", fake_llama_cpp)
    (tmp_path / "model.gguf").write_bytes(b"GGUF and weights")
    return tmp_path / "model.gguf"


def test_a_gguf_file_answers_and_is_loaded_once(tmp_path: Path, gguf: Path) -> None:
    ask = Ask(model=f"gguf:{gguf}", system="Be brief.", temperature=0.5, max_tokens=9, stop=("END",), seed=5)

    found = asked(tmp_path, ask, [Prompt("a"), Prompt("b", sample=2)], endpoints={f"gguf:{gguf}": {"n_ctx": 2048}})

    assert [outcome.text for outcome in found if isinstance(outcome, Answer)] == ["a (s u)", "b (s u)"]
    assert fake_llama_cpp.loaded == [
        {"model_path": str(gguf), "n_ctx": 2048, "n_gpu_layers": -1, "verbose": False},
    ]
    first, second = fake_llama_cpp.asked
    assert (first["temperature"], first["max_tokens"], first["stop"], first["seed"]) == (0.5, 9, ["END"], 5)
    assert second["seed"] == 7


def test_models_of_a_library_go_on_from_raw_text(tmp_path: Path, vllm: Any, gguf: Path) -> None:
    prefix = [{"role": "prefix", "content": "<|user|>"}]
    settings = {"temperature": 0.5, "max_tokens": 50, "stop": ("<|end|>",)}

    mixed = [Prompt(prefix), Prompt("hello"), Prompt(prefix, sample=1)]
    found = asked(tmp_path / "vllm", Ask(model="vllm:org/model", **settings), mixed)
    answer = one(tmp_path / "gguf", Ask(model=f"gguf:{gguf}", extra={"top_k": 7}, **settings), Prompt(prefix))

    assert [outcome.text for outcome in found if isinstance(outcome, Answer)] == [
        "<|user|> (r, seed None, None)",
        "hello (u, seed None, None)",
        "<|user|> (r, seed None, None)",
    ]
    assert sorted(vllm.batches) == [1, 2]
    assert (answer.text, answer.usage[:2]) == ("<|user|> and on", (2, 3))
    assert {name: fake_llama_cpp.asked[-1][name] for name in ("prompt", "max_tokens", "stop", "top_k")} == {
        "prompt": "<|user|>",
        "max_tokens": 50,
        "stop": ["<|end|>"],
        "top_k": 7,
    }


def test_a_gguf_model_counts_by_its_content(tmp_path: Path, gguf: Path) -> None:
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(gguf.read_bytes())
    first = one(tmp_path, Ask(model=f"gguf:{gguf}"))

    assert one(tmp_path, Ask(model=f"gguf:{moved}")) == first._replace(cached=True)
    moved.write_bytes(b"GGUF and other weights")
    assert one(tmp_path, Ask(model=f"gguf:{moved}")).key != first.key


def test_a_gguf_model_keeps_to_a_schema_calls_tools_and_tells_probabilities(tmp_path: Path, gguf: Path) -> None:
    model = f"gguf:{gguf}"

    assert one(tmp_path, Ask(model=model), Prompt("hello", SAID)).value == {"said": "hello"}
    assert fake_llama_cpp.asked[0]["response_format"] == {"type": "json_object", "schema": SAID.form}
    answer = one(tmp_path, Ask(model=model, tools=(TOOL,), tool_choice="auto"))
    assert answer.tool_calls == (ToolCall("call_1", "weather", {}),)
    logprobs = one(tmp_path, Ask(model=model, logprobs=0)).logprobs
    assert logprobs is not None
    assert [chance.token for chance in logprobs] == ["a"]


def test_a_prompt_beyond_the_context_costs_its_row(tmp_path: Path, gguf: Path) -> None:
    long, fine = asked(tmp_path, Ask(model=f"gguf:{gguf}"), prompts(["a" * 1000, "b"]))

    assert isinstance(long, RowFault)
    assert (long.kind, isinstance(fine, Answer)) == ("too_long", True)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such file"):
        one(tmp_path, Ask(model="gguf:/no/such.gguf"))


@pytest.mark.parametrize(("name", "extra"), [("vllm", "vllm"), ("llama_cpp", "gguf"), ("litellm", "litellm")])
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path: Path, name: str, extra: str) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    model = {"vllm": "vllm:org/x", "llama_cpp": f"gguf:{tmp_path / 'model.gguf'}", "litellm": "litellm/x/y"}[name]

    with pytest.raises(ModelError, match=rf"needs the library `{name}`") as caught:
        one(tmp_path, Ask(model=model))
    assert f"pip install 'stillhouse[{extra}]'" in str(caught.value)


# LiteLLM


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake_litellm.asked.clear()
    fake_litellm.passing.clear()
    put_in(monkeypatch, "litellm", fake_litellm)
    return fake_litellm


def test_litellm_is_asked_without_its_own_retries(tmp_path: Path, litellm: Any) -> None:
    ask = Ask(model="litellm/anthropic/teacher", temperature=0.5, max_tokens=9, extra={"top_k": 5})

    assert one(tmp_path, ask).text == "reply to hello"

    (call,) = litellm.asked
    assert call["model"] == "anthropic/teacher"
    assert (call["num_retries"], call["max_retries"], call["top_k"]) == (0, 0, 5)
    assert "base_url" not in call
    assert one(tmp_path, ask).cached


@pytest.mark.parametrize(("text", "kind"), [("long", "too_long"), ("policy", "refused"), ("bad", "rejected")])
def test_litellms_errors_of_a_row_cost_that_row(tmp_path: Path, litellm: Any, text: str, kind: str) -> None:
    fault, fine = asked(tmp_path, Ask(model="litellm/x/teacher"), prompts([text, "fine"]))

    assert isinstance(fault, RowFault)
    assert (fault.kind, isinstance(fine, Answer)) == (kind, True)


@pytest.mark.parametrize(("text", "kind"), [("key", "credentials"), ("model", "unknown_model")])
def test_litellms_errors_that_no_row_can_mend_stop_the_run(tmp_path: Path, litellm: Any, text: str, kind: str) -> None:
    endpoint = Endpoint("http://localhost:1/v1", api_key="KEY", api="litellm")
    with pytest.raises(ModelError) as caught:
        asked(
            tmp_path,
            Ask(model="litellm/x/teacher", deployment="d"),
            prompts([text]),
            endpoints={"d": endpoint},
            credentials=Credentials({"KEY": "sk-very-secret"}),
        )

    assert caught.value.kind == kind
    assert "sk-very-secret" not in str(caught.value)
    assert litellm.asked[0]["base_url"] == "http://localhost:1/v1"
    assert litellm.asked[0]["api_key"] == "sk-very-secret"


def test_litellms_troubles_that_pass_are_asked_again(tmp_path: Path, litellm: Any) -> None:
    litellm.passing += [
        litellm.RateLimitError("slow down", {"retry-after": "0"}),
        litellm.APIConnectionError("nobody"),
        TimeoutError("late"),
    ]

    assert one(tmp_path, Ask(model="litellm/x/teacher")).text == "reply to hello"
    assert len(litellm.asked) == 4


@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="LiteLLM is not installed")
def test_the_real_litellm_asks_a_real_server(tmp_path: Path) -> None:
    with MisbehavingServer(key="sk-very-secret") as server:
        endpoint = Endpoint(server.url, api_key="KEY", api="litellm")
        answer = one(
            tmp_path,
            Ask(model="litellm/openai/teacher", deployment="d"),
            endpoints={"d": endpoint},
            credentials=Credentials({"KEY": "sk-very-secret"}),
        )

    assert answer.text == "reply to hello"
    assert answer.usage.prompt_tokens == len("hello")


def test_a_recipe_file_says_how_a_library_loads_its_model() -> None:
    table = {"vllm:org/x": {"tensor_parallel_size": 2}, "house": "http://localhost:8000/v1"}

    found = SessionSettings.read({"endpoints": table}).endpoints

    assert found == {"vllm:org/x": {"tensor_parallel_size": 2}, "house": Endpoint("http://localhost:8000/v1")}
