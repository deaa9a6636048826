"""From the name of a model to where it is asked, by what name, in which API and with which key."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.calls.endpoint import HOSTS, Endpoint, at_endpoint, hosted
from stillhouse.core.errors import RecipeError

AZURE = "https://me.openai.azure.com"


@pytest.mark.parametrize("provider", [name for name, host in HOSTS.items() if host.url is not None])
def test_every_host_is_reached_by_its_short_name(provider: str) -> None:
    endpoint, name = hosted(f"{provider}/org/model-1")

    assert (endpoint.url, endpoint.api, endpoint.api_key) == (
        *HOSTS[provider][:1],
        HOSTS[provider].api,
        HOSTS[provider].api_key,
    )
    assert name == "org/model-1"
    assert endpoint.url.startswith("https://") or "localhost" in endpoint.url


def test_azure_has_no_place_of_its_own() -> None:
    with pytest.raises(RecipeError, match="another place for every user") as caught:
        hosted("azure/gpt")
    assert 'endpoint="https://NAME.openai.azure.com"' in str(caught.value)


def test_an_unknown_provider_is_said_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match="no provider is called `antropic`") as caught:
        hosted("antropic/claude")
    assert "anthropic" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("anthropic/claude", {}, ("anthropic", None, "claude")),
        ("anthropic/claude", {"api": "openai"}, ("openai", None, "claude")),
        ("openai/gpt", {}, (None, None, "gpt")),
        ("openai/openai/gpt-oss", {}, (None, None, "openai/gpt-oss")),
        ("Qwen/Qwen3", {}, (None, None, "Qwen/Qwen3")),
        ("gemini/gemini-4", {"api_key": "MINE"}, ("gemini", "MINE", "gemini-4")),
    ],
)
def test_an_endpoint_speaks_as_the_provider_in_the_models_name(
    model: str, given: dict[str, Any], expected: tuple[str | None, str | None, str]
) -> None:
    endpoint, name = at_endpoint(model, Endpoint("http://localhost:8000/v1", **given))

    assert (endpoint.api, endpoint.api_key, name) == expected


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (AZURE, "AZURE_OPENAI_API_KEY"),
        ("https://me.cognitiveservices.azure.com", "AZURE_OPENAI_API_KEY"),
        ("https://evil.example/openai.azure.com", None),
        ("https://azure.com.evil.example", None),
        ("https://notazure.com", None),
    ],
)
def test_azures_key_goes_to_azure_alone(url: str, key: str | None) -> None:
    endpoint, _ = at_endpoint("azure/gpt", Endpoint(url))

    assert (endpoint.api, endpoint.api_key, endpoint.max_tokens_field) == ("azure", key, "max_completion_tokens")


@pytest.mark.parametrize(("field", "value"), [("api", "telegraph"), ("structured", "perhaps")])
def test_what_an_endpoint_cannot_be_is_said(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"`{field}` of an endpoint is `{value}`"):
        Endpoint("http://localhost/v1", **{field: value})
