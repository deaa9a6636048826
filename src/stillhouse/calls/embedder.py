"""What turns texts into vectors, and how: the part that semantic steps carry."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from stillhouse.core.artifact import Model
from stillhouse.core.errors import RecipeError
from stillhouse.core.functions import resolve
from stillhouse.core.keys import folder_digest
from stillhouse.core.part import Part
from stillhouse.core.step import Step

from .endpoint import checked_url

Role: TypeAlias = Literal["document", "query"]
"""What a text is to its vector. Many models look for a question's answer, not for texts like the question."""

Pooling: TypeAlias = Literal["mean", "cls", "last", "max"]


class Embedder(Part, tag="calls.embedder/1"):
    """A model of vectors: `Embedder(model="openai/text-embedding-3-small", dimensions=512)`.

    `model` is `provider/name` (openai, cohere, voyage, gemini, mistral, …), `local:FOLDER` (an encoder that
    transformers loads, with the conventions of sentence-transformers), a step that makes such a model,
    `python:package.module:function`, `scripted:NAME`, or `hash:256`: counted n-grams thrown into 256 numbers, which
    needs no download and knows wordings, not meanings.

    It counts with everything that shapes a vector: provider, model and endpoint (a function by its source, a folder by
    its content), or in their place the id of a declared `deployment`; dimensions, instructions, pooling.
    """

    model: str | Step[Model]
    deployment: str | None = Field(None, min_length=1)
    """A name you vouch for, as in `Ask`: in keys it replaces provider, model and endpoint."""
    endpoint: str | None = Field(None, min_length=1)
    """URL of an OpenAI-compatible server: `http://host:8000/v1`."""
    dimensions: int | None = Field(None, ge=1)
    """A shorter vector than the model's own, where it was trained for that. HTTP models are asked for it, those of this
    machine are cut (and brought to length 1 again)."""
    query: str | None = None
    """Text before each query: an instruction. None: what the model's folder says, else nothing."""
    document: str | None = None
    """Text before each document."""
    pooling: Pooling | None = None
    """How a local model's token vectors become one. None: what its folder says, else `mean`."""
    normalise: bool = True
    """Vectors of length 1, so that their product is their cosine. A vector of zeros stays."""

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
                f"`{model}` names no model; write `provider/name` (openai/text-embedding-3-small), `local:FOLDER`, "
                "`python:package.module:function`, `hash:256` or give a step that makes a model"
            )
        if isinstance(model, str) and scheme_of(model) == "hash":
            hashed_dimensions(model)
        return model

    @field_validator("endpoint")
    @classmethod
    def _url(cls, endpoint: str | None) -> str | None:
        try:
            return None if endpoint is None else checked_url(endpoint)
        except RecipeError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None

    @model_validator(mode="after")
    def _coherent(self) -> "Embedder":
        scheme = scheme_of(self.model) if isinstance(self.model, str) else "local"
        if self.endpoint is not None and scheme is not None:
            raise ValueError("`endpoint` goes with a `provider/name`, not with a model that runs in this process")
        if self.pooling is not None and scheme != "local":
            raise ValueError("`pooling` is for models of this machine (`local:FOLDER` or a step that makes one)")
        if scheme == "hash" and self.dimensions is not None:
            raise ValueError("a `hash` embedder says its dimensions in its name: `hash:256`")
        if scheme == "hash" and self.deployment is not None:
            raise ValueError("a `hash` embedder is computed here and has no `deployment`")
        return self

    @property
    def name(self) -> str:
        """What messages and ledgers call it."""
        if self.deployment is not None:
            return self.deployment
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    def instruction(self, role: Role) -> str | None:
        """The text before each query or document, where the recipe gives one."""
        return self.query if role == "query" else self.document

    def by(self) -> dict[str, Any]:  # plain values, a function or a step
        """Who makes the vectors, as it counts in keys."""
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
        """Who makes the vectors, and what else shapes them."""
        who = ("model", "deployment", "endpoint")
        return {"by": self.by(), **{name: value for name, value in self.values().items() if name not in who}}


_SCHEMES = ("python", "scripted", "local", "hash")


def scheme_of(model: str) -> str | None:
    """`python`, `scripted`, `local` or `hash` of a model that runs in this process; None of one over HTTP."""
    scheme, colon, rest = model.partition(":")
    return scheme if colon and rest and scheme in _SCHEMES else None


def hashed_dimensions(model: str) -> int:
    """256 of `hash:256`; raises `ValueError` for what is no such name."""
    found = re.fullmatch(r"hash:([1-9][0-9]*)", model)
    if found is None or not 8 <= int(found[1]) <= 65_536:
        raise ValueError(f"`{model}`: write `hash:` and a number of dimensions from 8 to 65,536, such as `hash:256`")
    return int(found[1])


def function_named(model: str) -> Callable[..., Any]:
    """The function of `python:package.module:function`, or `embed` of `python:package.module`."""
    reference = model.partition(":")[2]
    return resolve(reference if ":" in reference else f"{reference}:embed")


def _content(folder: Path) -> str:
    if not folder.is_dir():
        raise RecipeError(
            f"`local:{folder}` is no folder", "Name one that transformers or sentence-transformers wrote."
        )
    return folder_digest(folder)
