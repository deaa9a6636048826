"""The `session` part of a recipe file: where and how. None of it changes what a result is called."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..calls.batch.settings import Batching
from ..calls.budget import Budget
from ..calls.endpoint import Endpoint
from ..calls.prices import Price
from ..calls.retry import Patience
from ..calls.settings import adapted, batch_of, check_names, endpoints_of, mapping, one, prices_of, widths_of
from ..core.errors import RecipeError
from ..core.options import Options


@dataclass(frozen=True)
class SessionSettings:
    """What a recipe file says to the session: each as in `Session(...)`."""

    endpoints: Mapping[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    budget: Budget | None = None
    concurrency: int | Mapping[str, int] | None = None
    options: Options = field(default_factory=Options)
    engine: str | None = None
    batch: Batching | bool | str | None = None
    patience: Patience | None = None

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> SessionSettings:
        """The settings of a table; raises `RecipeError` for unknown keys and values that do not fit."""
        check_names(table, [entry.name for entry in dataclasses.fields(cls)], "session")
        width, patience = table.get("concurrency"), table.get("patience")
        return cls(
            endpoints=_endpoints(table.get("endpoints") or {}),
            prices=prices_of(table.get("prices") or {}, "session.prices"),
            budget=None if table.get("budget") is None else one(Budget, table["budget"], "session.budget", "usd"),
            concurrency=None if width is None else widths_of(width, "session.concurrency"),
            options=_options(table.get("options") or {}),
            engine=adapted(str | None, table.get("engine"), "session.engine"),
            batch=batch_of(table.get("batch"), "session.batch"),
            patience=None if patience is None else one(Patience, patience, "session.patience"),
        )


def _options(table: Any) -> Options:
    where = "session.options"
    check_names(mapping(table, where), list(Options.model_fields), where)
    try:
        return Options(**table)
    except RecipeError as error:
        message = re.sub(r"(^|; )`(?=\w+`:)", rf"\1`{where}.", error.message.removeprefix("Options: "))
        raise RecipeError(message, error.hint, where=f"{where}.{error.where}") from None


def _endpoints(table: Any) -> dict[str, Endpoint | Sequence[Endpoint] | Mapping[str, Any]]:
    where = "session.endpoints"
    for name, value in mapping(table, where).items():
        if isinstance(value, list | tuple):
            for place, each in enumerate(value):
                _without_secrets(each, f"{where}.{name}.{place}")
        else:
            _without_secrets(value, f"{where}.{name}")
    return endpoints_of(table, where)


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
