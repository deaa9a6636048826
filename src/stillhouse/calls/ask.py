"""Who is asked, and with what settings: the part that steps carry."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from stillhouse.core.artifact import Model
from stillhouse.core.errors import RecipeError
from stillhouse.core.functions import resolve
from stillhouse.core.keys import folder_digest
from stillhouse.core.part import Part
from stillhouse.core.step import Step

from .endpoint import checked_url
from .request import Sampling


class Ask(Part, tag="calls.ask/1"):
    """A model that is asked: `Ask(model="openai/gpt-4o-mini", temperature=0.7)`.

    `model` is `openai/gpt-4o-mini` (provider/name), `python:package.module:function`, `scripted:NAME`, `local:FOLDER`,
    or a step that makes a model. It counts with everything that shapes its answers: provider, model and endpoint (a
    Python function by its source, a folder by its content), or in their place the id of a declared `deployment`; the
    system prompt and the sampling.
    """

    model: str | Step[Model]
    deployment: str | None = Field(None, min_length=1)
    """A name you vouch for: all that answers under it answers alike. In keys it replaces provider, model and endpoint.
    """
    endpoint: str | None = Field(None, min_length=1)
    """URL of an OpenAI-compatible server: `http://host:8000/v1`."""
    system: str | None = None
    temperature: float | None = Field(0.0, ge=0, le=2)
    """None leaves it to the provider, as some reasoning models demand."""
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Sent with the request; sample i of a request is asked with seed + i."""

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

    @model_validator(mode="after")
    def _reachable(self) -> "Ask":
        if self.endpoint is not None and not (isinstance(self.model, str) and scheme_of(self.model) is None):
            raise ValueError("`endpoint` goes with a `provider/name`, not with a model that runs in this process")
        return self

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.stop, self.seed)

    @property
    def name(self) -> str:
        """What messages and ledgers call it."""
        if self.deployment is not None:
            return self.deployment
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    def by(self) -> dict[str, Any]:  # plain values, a function or a step
        """Who answers, as it counts in keys."""
        if self.deployment is not None:
            return {"deployment": self.deployment}
        if not isinstance(self.model, str):
            return {"model": self.model}
        scheme = scheme_of(self.model)
        if scheme == "python":
            return {"model": self.model, "function": function_named(self.model)}
        if scheme == "local":
            return {"model": "local", "content": _content(Path(self.model.partition(":")[2]))}
        return {"model": self.model} if self.endpoint is None else {"model": self.model, "endpoint": self.endpoint}

    def identity(self) -> Mapping[str, Any]:
        """Who answers, the system prompt and the sampling."""
        who = ("model", "deployment", "endpoint")
        return {"by": self.by(), **{name: value for name, value in self.values().items() if name not in who}}


_SCHEMES = ("python", "scripted", "local")


def scheme_of(model: str) -> str | None:
    """`python`, `scripted` or `local` of a model that runs in this process; None of one that is reached over HTTP."""
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
