"""The `session` part of a recipe file: where and how. None of it changes what a result is called."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..calls.ask import scheme_of
from ..calls.batch.settings import Batching, batching
from ..calls.budget import Budget
from ..calls.endpoint import Endpoint
from ..calls.prices import Price
from ..calls.settings import adapted, check_names, mapping, one, prices_of
from ..core.errors import RecipeError
from ..core.options import Options


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
        check_names(table, [entry.name for entry in dataclasses.fields(cls)], "session")
        return cls(
            endpoints=_endpoints(table.get("endpoints")),
            prices=prices_of(table.get("prices") or {}, "session.prices"),
            budget=None if table.get("budget") is None else one(Budget, table["budget"], "session.budget", "usd"),
            concurrency=adapted(int | None, table.get("concurrency"), "session.concurrency"),
            options=_options(table.get("options") or {}),
            engine=adapted(str | None, table.get("engine"), "session.engine"),
            batch=_batch(table.get("batch")),
        )


def _options(table: Any) -> Options:
    where = "session.options"
    check_names(mapping(table, where), list(Options.model_fields), where)
    try:
        return Options(**table)
    except RecipeError as error:
        message = error.message.removeprefix("Options: ").replace("`", f"`{where}.", 1)
        raise RecipeError(message, error.hint, where=f"{where}.{error.where}") from None


def _endpoints(table: Any) -> dict[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]]:
    """Servers, or lists of them for one model; under `vllm:NAME` and `gguf:FILE` what the library there is given."""
    where = "session.endpoints"
    found: dict[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]] = {}
    for name, value in mapping(table or {}, where).items():
        if isinstance(value, Mapping) and scheme_of(str(name)):
            found[name] = value
        elif isinstance(value, list | tuple):
            found[name] = [_endpoint(each, f"{where}.{name}.{place}") for place, each in enumerate(value)]
        else:
            found[name] = _endpoint(value, f"{where}.{name}")
    return found


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
        return one(Batching, value, "session.batch")
    try:
        batching(value)
    except RecipeError as error:
        raise RecipeError(error.message, error.hint, where="session.batch") from None
    found: bool | str | None = value
    return found


def _endpoint(value: Any, where: str) -> Endpoint:
    _without_secrets(value, where)
    return one(Endpoint, value, where, "url")
