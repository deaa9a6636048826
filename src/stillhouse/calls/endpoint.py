"""Where a model is reached: a URL, the API that is spoken there, the name of its key, and what the server can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import urlsplit

from stillhouse.core.errors import RecipeError

Api: TypeAlias = Literal[
    "openai", "responses", "completions", "azure", "anthropic", "gemini", "vertex", "bedrock", "cohere", "litellm"
]
"""What is spoken at an endpoint: OpenAI's chat or responses, Azure's, …"""

Structured: TypeAlias = Literal["native", "tool", "object", "prompt"]
"""How JSON is asked for: by schema, as a tool call that must be made, as any JSON object plus the schema in words, or
in words alone."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server. A session declares it under a deployment's id, or under its URL."""

    url: str
    """Up to and without what the API itself adds: `http://localhost:8000/v1` for `/chat/completions` below it."""
    model: str | None = None
    """What the server calls the model, where that differs from the name in the recipe; for a deployment's endpoint."""
    api_key: str | None = None
    """Name of the variable that holds the key; None sends no key."""
    structured: Structured = "native"
    """How JSON is asked for. It is in no key: every reply is checked against the same schema, however it was got."""
    concurrency: int | None = None
    """Calls at once; None takes the session's number."""
    rpm: float | None = None
    """Requests a minute, at most; what the server itself says of its limits is obeyed in any case."""
    tpm: float | None = None
    """Tokens a minute, at most, of prompts and replies together."""
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    """Seconds without a byte before a call is given up."""
    total_timeout: float = 900.0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each request; `${NAME}` in a value stands for a variable, as what is written here is in records."""
    max_tokens_field: str = "max_tokens"
    batch: bool = False
    """Ask in batch jobs, at half the price and with hours of patience."""
    api: Api | None = None
    """What is spoken there; None is what the provider in the model's name speaks, OpenAI's chat for others."""
    api_version: str = "2024-10-21"
    """For Azure, which names the version of its API in each URL."""

    def __post_init__(self) -> None:
        checked_url(self.url)
        for name in ("concurrency", "rpm", "tpm"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise RecipeError(f"`{name}` of the endpoint `{self.url}` is {value}, expected at least 1")
        for name, value, known in (
            ("api", self.api, get_args(Api)),
            ("structured", self.structured, get_args(Structured)),
        ):
            if value is not None and value not in known:
                raise RecipeError(f"`{name}` of an endpoint is `{value}`", f"Known: {', '.join(known)}.")


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
    """A hosted service by its short name. `url` is None where every user has one of their own."""

    url: str | None
    api_key: str | None
    max_tokens_field: str = "max_tokens"
    api: Api = "openai"
    structured: Structured = "native"
    other_keys: tuple[str, ...] = ()
    """Variables of keys that stand in for `api_key`, in the order in which they are looked for."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Variables one of which is to be set; none for a host that asks for no key."""
        return (self.api_key, *self.other_keys) if self.api_key is not None else self.other_keys


VERTEX_KEYS = ("VERTEX_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "VERTEX_API_KEY")
BEDROCK_KEYS = ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID")

HOSTS: Mapping[str, Host] = {
    "openai": Host("https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"),
    "responses": Host("https://api.openai.com/v1", "OPENAI_API_KEY", api="responses"),
    "completions": Host("http://localhost:8000/v1", None, api="completions"),
    "azure": Host(None, "AZURE_OPENAI_API_KEY", "max_completion_tokens", "azure"),
    "anthropic": Host("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", api="anthropic"),
    "gemini": Host("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", api="gemini"),
    "vertex": Host("https://aiplatform.googleapis.com/v1", None, api="vertex", other_keys=VERTEX_KEYS),
    "bedrock": Host("https://bedrock-runtime.amazonaws.com", None, api="bedrock", other_keys=BEDROCK_KEYS),
    "cohere": Host("https://api.cohere.com/v2", "COHERE_API_KEY", api="cohere"),
    "openrouter": Host("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": Host("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together": Host("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "mistral": Host("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Host("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", structured="object"),
    "fireworks": Host("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "xai": Host("https://api.x.ai/v1", "XAI_API_KEY"),
    "huggingface": Host("https://router.huggingface.co/v1", "HF_TOKEN"),
    "ollama": Host("http://localhost:11434/v1", None),
    "litellm": Host("https://litellm.invalid", None, api="litellm"),
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
    if host.url is None:
        raise RecipeError(
            f"`{provider}` is another place for every user, and `{model}` does not say which",
            f'Say it: Ask(model="{model}", endpoint="https://NAME.openai.azure.com").',
        )
    return _of_host(host, Endpoint(host.url, api_key=host.api_key)), name


def at_endpoint(model: str, endpoint: Endpoint) -> tuple[Endpoint, str]:
    """A model at an endpoint of its own: the endpoint as the provider in the model's name speaks, and the name there.

    The name is asked for without a provider that is only our prefix. No key of a provider goes to a place that is not
    known to be its own.
    """
    provider, _, name = model.partition("/")
    host = HOSTS.get(provider) if name else None
    if host is None:
        return endpoint, model
    if endpoint.api is None and host.api != "openai":
        endpoint = replace(endpoint, api=host.api)
    if endpoint.api == "azure":
        endpoint = _on_azure(endpoint)
    return endpoint, name


_AZURE = (".azure.com", ".azure.us", ".azure.cn")


def _on_azure(endpoint: Endpoint) -> Endpoint:
    host = HOSTS["azure"]
    is_azure = (urlsplit(endpoint.url).hostname or "").endswith(_AZURE)
    key = host.api_key if endpoint.api_key is None and is_azure else endpoint.api_key
    return replace(endpoint, api_key=key, max_tokens_field=host.max_tokens_field)


def _of_host(host: Host, endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, api=host.api, structured=host.structured, max_tokens_field=host.max_tokens_field)
