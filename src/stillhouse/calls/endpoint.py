"""Where a model is reached: a URL, the name of its key, and what the server there can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from stillhouse.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server. A session declares it under a deployment's id, or under its URL."""

    url: str
    """Up to and without `/chat/completions`: `http://localhost:8000/v1`."""
    model: str | None = None
    """What the server calls the model, where that differs from the name in the recipe; for a deployment's endpoint."""
    api_key: str | None = None
    """Name of the variable that holds the key; None sends no key."""
    structured: Literal["native", "object", "prompt"] = "native"
    """How JSON is asked for: by schema, as any JSON object plus the schema in words, or in words alone."""
    concurrency: int | None = None
    """Calls at once; None takes the session's number."""
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    """Seconds without a byte before a call is given up."""
    total_timeout: float = 900.0
    headers: Mapping[str, str] = field(default_factory=dict)
    max_tokens_field: str = "max_tokens"

    def __post_init__(self) -> None:
        checked_url(self.url)

    @property
    def chat_url(self) -> str:
        return self.url.rstrip("/") + "/chat/completions"


def checked_url(url: str) -> str:
    """The URL itself, if a server can be reached by it; raises `RecipeError`, which repeats no secret of it."""
    remedy = "Write it as `http://host:8000/v1`."
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise RecipeError(
                "an endpoint's URL holds a user, a password, a query or a fragment, and it is written into records",
                "Leave them out and name the variable of the key: "
                'Session(endpoints={url: Endpoint(url, api_key="NAME")}).',
            )
        _ = parts.port  # reading it checks it
        (parts.hostname or "").encode("idna")
    except ValueError as error:  # UnicodeError among them
        raise RecipeError(f"`{url}` is no endpoint: {error}", remedy) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"`{url}` is no endpoint", remedy)
    return url


class Host(NamedTuple):
    """A hosted service by its short name."""

    url: str
    api_key: str | None
    max_tokens_field: str = "max_tokens"


HOSTS: Mapping[str, Host] = {
    "openai": Host("https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"),
    "openrouter": Host("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": Host("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together": Host("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "mistral": Host("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Host("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": Host("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "ollama": Host("http://localhost:11434/v1", None),
}


def hosted(model: str) -> tuple[Endpoint, str]:
    """The endpoint of `provider/name` and the name there; raises `RecipeError` for an unknown provider."""
    provider, _, name = model.partition("/")
    host = HOSTS.get(provider)
    if host is None:
        raise RecipeError(
            f"no provider is called `{provider}` (in `{model}`)",
            f"Known: {', '.join(HOSTS)}. Any OpenAI-compatible server is reached with `endpoint='http://host:8000/v1'`.",
        )
    return Endpoint(host.url, api_key=host.api_key, max_tokens_field=host.max_tokens_field), name


def served_name(model: str) -> str:
    """What a server at an endpoint of its own is asked for: the name without a provider that is only our prefix."""
    provider, _, name = model.partition("/")
    return name if provider in HOSTS and name else model
