"""Who is asked, and with what settings: the part that steps carry."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from stillhouse.core.artifact import Model
from stillhouse.core.errors import RecipeError
from stillhouse.core.functions import resolve
from stillhouse.core.keys import file_digest, folder_digest
from stillhouse.core.part import Part
from stillhouse.core.step import Step

from .endpoint import Structured, checked_url
from .request import NO_EXTRAS, Extras, Judging, RequestForm, Sampling, Tool, tools_of

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema


class Ask(Part, tag="calls.ask/1"):
    """A model that is asked: `Ask(model="openai/gpt-4o-mini", temperature=0.7)`.

    `model` is `openai/gpt-4o-mini` (provider/name), `python:package.module:function`, `scripted:NAME`, `local:FOLDER`,
    `vllm:NAME`, `gguf:FILE`, or a step that makes a model. It counts with everything that shapes its answers: provider,
    model and endpoint (a Python function by its source, a folder or file by its content), or in their place the id of a
    declared `deployment`; the system prompt, the sampling, and whatever else it asks with.
    """

    model: str | Step[Model]
    deployment: str | None = Field(None, min_length=1)
    """A name you vouch for: all that answers under it answers alike. In keys it replaces provider, model and endpoint.
    """
    endpoint: str | None = Field(None, min_length=1)
    """URL of a server: `http://host:8000/v1`. It speaks as the provider in `model` does; OpenAI's chat, for others."""
    system: str | None = None
    temperature: float | None = Field(0.0, ge=0, le=2)
    """None leaves it to the provider, as some reasoning models demand."""
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Sent with the request; sample i of a request is asked with seed + i."""
    tools: tuple[dict[str, Any], ...] = ()
    """Tools that the model may want called: `{"name": …, "description": …, "parameters": JSON Schema}`."""
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of the tool that must be called."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """Keep the log-probabilities of the reply's tokens, each with those of so many others in its place."""
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """How hard a reasoning model thinks; which of these it knows is the model's own."""
    thinking: int | None = Field(None, ge=0)
    """The most tokens to think with, for models that take a number."""
    structured: Structured | None = None
    """How JSON is asked for; None leaves it to the endpoint, and then it does not count."""
    extra: dict[str, Any] = {}
    """Fields of the provider's own, laid over the request's body: `{"top_k": 20}`."""
    when_cut: Literal["fail", "keep", "extend"] = "fail"
    """A reply that is cut at `max_tokens` fails its row, is kept and marked (`finish` is `length`), or is asked for
    once more with four times the room."""
    when_looping: Literal["fail", "keep"] = "fail"
    """A reply that says the same again and again to its end is sampled once more, then fails its row; or is kept."""
    when_equal: Literal["apart", "share"] | None = None
    """Rows of a step that ask the same get a reply each, or one for all. None: a reply each, unless `temperature` is 0.
    """
    draw: str | None = Field(None, min_length=1)
    """Steps that ask alike share their replies, sample by sample; those that name a draw get replies of its own."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Where a field takes this part, the name of a model will do."""
        return {"model": given} if isinstance(given, str) else given

    @field_validator("model")
    @classmethod
    def _named(cls, model: str | Step[Model]) -> str | Step[Model]:
        if isinstance(model, str) and not (scheme_of(model) or "/" in model):
            raise ValueError(
                f"`{model}` names no model; write `provider/name` (openai/gpt-4o-mini), "
                "`python:package.module:function`, `local:FOLDER` or give a step that makes a model"
            )
        return model

    @field_validator("endpoint")
    @classmethod
    def _url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and "://" not in endpoint:
            raise ValueError(
                f"`{endpoint}` is no URL. A name that the session gives a place to is a `deployment`: "
                f'Ask(model=…, deployment="{endpoint}") with Session(endpoints={{"{endpoint}": "http://host:8000/v1"}})'
            )
        try:
            return None if endpoint is None else checked_url(endpoint)
        except RecipeError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None

    @field_validator("tools", mode="before")
    @classmethod
    def _in_one_form(cls, tools: Any) -> Any:
        return tools_of(tools) if isinstance(tools, Sequence) and not isinstance(tools, str) else tools

    @model_validator(mode="after")
    def _sound(self) -> "Ask":
        names = [tool["name"] for tool in self.tools]
        if self.tool_choice is not None and self.tool_choice not in ("auto", "none", "required", *names):
            raise ValueError(f"`tool_choice` is `{self.tool_choice}`, expected auto, none, required or one of {names}")
        if self.when_cut == "extend" and self.max_tokens is None:
            raise ValueError("`when_cut` can only extend `max_tokens` that are given")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> "Ask":
        if self.endpoint is not None and not (isinstance(self.model, str) and scheme_of(self.model) is None):
            raise ValueError("`endpoint` goes with a `provider/name`, not with a model that runs in this process")
        return self

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.stop, self.seed)

    @property
    def extras(self) -> Extras:
        made = Extras(
            tuple(self.tools),
            self.tool_choice,
            self.logprobs,
            self.effort,
            self.thinking,
            self.structured,
            self.extra or None,
        )
        return made if made.form() else NO_EXTRAS

    def form(
        self, by: Mapping[str, Any], model: str, schema: "Schema | None", tools: tuple[Tool, ...] = ()
    ) -> RequestForm:
        """What its requests share; `by` is who answers, in canonical form, `tools` are offered besides its own."""
        if self.draw is not None:
            by = {**by, "draw": self.draw}
        extras = self.extras
        if tools:
            extras = extras._replace(tools=(*extras.tools, *tools_of(tools)))
        judging = Judging(self.when_cut, self.when_looping)
        return RequestForm(by, model, self.sampling, schema, self.system, extras, judging)

    @property
    def name(self) -> str:
        """What messages and ledgers call it."""
        if self.deployment is not None:
            return self.deployment
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    @property
    def asks_apart(self) -> bool:
        """Whether rows of a step that ask the same get a reply each."""
        return self.temperature != 0 if self.when_equal is None else self.when_equal == "apart"

    def by(self) -> dict[str, Any]:  # plain values, a function or a step
        """Who answers, as it counts in keys."""
        if self.deployment is not None:
            return {"deployment": self.deployment}
        if not isinstance(self.model, str):
            return {"model": self.model}
        scheme = scheme_of(self.model)
        if scheme == "python":
            return {"model": self.model, "function": function_named(self.model)}
        rest = self.model.partition(":")[2]
        if scheme == "local":
            return {"model": "local", "content": _content(Path(rest))}
        if scheme == "gguf":
            return {"model": "gguf", "content": _file_content(Path(rest))}
        if scheme == "vllm" and Path(rest).is_dir():
            return {"model": "vllm", "content": _content(Path(rest))}
        return {"model": self.model} if self.endpoint is None else {"model": self.model, "endpoint": self.endpoint}

    def identity(self) -> Mapping[str, Any]:
        """Who answers, the system prompt and the sampling."""
        who = ("model", "deployment", "endpoint")
        return {"by": self.by(), **{name: value for name, value in self.values().items() if name not in who}}


def ask_of(by: Ask | str) -> Ask:
    """The `Ask` itself, or the one that the name of a model stands for."""
    return by if isinstance(by, Ask) else _named(by)


@functools.lru_cache(maxsize=256)
def _named(model: str) -> Ask:
    """One for each name, as what is asked by it is remembered by that."""
    return Ask(model=model)


_SCHEMES = ("python", "scripted", "local", "vllm", "gguf")


def scheme_of(model: str) -> str | None:
    """`python`, `local` and so on of a model that runs in this process; None of one that is reached over HTTP."""
    scheme, colon, rest = model.partition(":")
    return scheme if colon and rest and scheme in _SCHEMES else None


def function_named(model: str) -> Callable[..., Any]:
    """The function of `python:package.module:function`, or `reply` of `python:package.module`."""
    reference = model.partition(":")[2]
    return resolve(reference if ":" in reference else f"{reference}:reply")


def _content(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise RecipeError(
            f"`local:{folder}` is not a model: there is no `{folder / 'config.json'}`",
            "Name a folder that transformers' `save_pretrained` wrote.",
        )
    return folder_digest(folder)


def _file_content(file: Path) -> str:
    if not file.is_file():
        raise RecipeError(f"`gguf:{file}` is not a model: there is no such file", "Name a file that ends in `.gguf`.")
    return file_digest(file)
