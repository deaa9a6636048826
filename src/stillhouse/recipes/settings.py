"""The `session` part of a recipe file: where and how. None of it changes what a result is called."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..calls.ask import scheme_of
from ..calls.batch.settings import Batching, batching
from ..calls.budget import Budget
from ..calls.endpoint import Endpoint
from ..calls.prices import Price
from ..core.errors import RecipeError
from ..core.options import Options

T = TypeVar("T")


@dataclass(frozen=True)
class SessionSettings:
    """What a recipe file says to the session: each as in `Session(...)`."""

    endpoints: Mapping[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    budget: Budget | None = None
    concurrency: int | None = None
    options: Options = field(default_factory=Options)
    engine: str | None = None
    batch: Batching | bool | str | None = None

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> SessionSettings:
        """The settings of a table; raises `RecipeError` for unknown keys and values that do not fit."""
        _known(table, [entry.name for entry in dataclasses.fields(cls)], "session")
        return cls(
            endpoints=_endpoints(table.get("endpoints")),
            prices=_each(Price, table.get("prices"), "session.prices"),
            budget=None if table.get("budget") is None else _one(Budget, table["budget"], "session.budget", "usd"),
            concurrency=_adapted(int | None, table.get("concurrency"), "session.concurrency"),
            options=_one(Options, table.get("options") or {}, "session.options"),
            engine=_adapted(str | None, table.get("engine"), "session.engine"),
            batch=_batch(table.get("batch")),
        )


def _endpoints(table: Any) -> dict[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]]:
    """Servers, or lists of them for one model; under `vllm:NAME` and `gguf:FILE` what the library there is given."""
    where = "session.endpoints"
    if not isinstance(table, Mapping):
        return {**_each(Endpoint, table, where, shorthand="url")}
    engines = {name: value for name, value in table.items() if scheme_of(str(name)) and isinstance(value, Mapping)}
    pools = {
        name: [_one(Endpoint, each, f"{where}.{name}.{place}", "url") for place, each in enumerate(value)]
        for name, value in table.items()
        if isinstance(value, list | tuple)
    }
    others = {name: value for name, value in table.items() if name not in engines and name not in pools}
    return {**_each(Endpoint, others, where, shorthand="url"), **pools, **engines}


_SECRET = re.compile(r"authorization|cookie|key|token|secret|password|credential", re.IGNORECASE)


def _without_secrets(value: Any, where: str) -> None:
    """Raise `RecipeError` for a key that stands in a header in clear: the file is copied beside what is made of it."""
    headers = value.get("headers") if isinstance(value, Mapping) else None
    for name, text in headers.items() if isinstance(headers, Mapping) else ():
        if _SECRET.search(str(name)) and "${" not in str(text):
            variable = re.sub(r"\W+", "_", str(name)).upper()
            raise RecipeError(
                f"the header `{name}` holds its secret in clear, and a copy of this file is kept with every result",
                f"Put it into the environment or `.env` and name the variable: `{name}: ${{{variable}}}`.",
                where=f"{where}.headers.{name}",
            )


def _batch(value: Any) -> Batching | bool | str | None:
    """`true`, `wait`, `false`, or how batch jobs are used."""
    if isinstance(value, Mapping):
        return _one(Batching, value, "session.batch")
    try:
        batching(value)
    except RecipeError as error:
        raise RecipeError(error.message, error.hint, where="session.batch") from None
    found: bool | str | None = value
    return found


def _each(kind: type[T], table: Any, where: str, shorthand: str | None = None) -> dict[str, T]:
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise RecipeError(f"`{where}` must be a mapping from names", where=where)
    return {name: _one(kind, value, f"{where}.{name}", shorthand) for name, value in table.items()}


def _one(kind: type[T], value: Any, where: str, shorthand: str | None = None) -> T:
    """One record; a bare value stands for the field `shorthand`."""
    if not isinstance(value, Mapping) and shorthand is not None:
        value = {shorthand: value}
    if kind is Endpoint:
        _without_secrets(value, where)
    if isinstance(value, Mapping):
        _known(value, _field_names(kind), where)
    found: T = _adapted(kind, value, where)
    return found


def _adapted(kind: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([where, *(str(part) for part in first["loc"])])
        raise RecipeError(f"`{place}`: {first['msg']}", where=place) from None


def _field_names(kind: Any) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [entry.name for entry in dataclasses.fields(kind)]
    return list(kind.model_fields if hasattr(kind, "model_fields") else kind._fields)


def _known(table: Mapping[str, Any], names: list[str], where: str) -> None:
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(names)}."
            raise RecipeError(f"`{key}` is not a setting of `{where}`", hint, where=f"{where}.{key}")
