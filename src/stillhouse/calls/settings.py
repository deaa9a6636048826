"""What a session is told about calls, checked and brought to one form before anything is asked."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from stillhouse.core.errors import RecipeError

from .budget import Budget
from .endpoint import Endpoint
from .prices import Price
from .retry import Patience

T = TypeVar("T")


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `Session` that are about calls; raises `RecipeError` for what none of them can be."""
    found = dict(given)
    if given["budget"] is not None:
        found["budget"] = one(Budget, given["budget"], "budget", "usd")
    if given["patience"] is not None:
        found["patience"] = one(Patience, given["patience"], "patience")
    if given["concurrency"] is not None:
        found["concurrency"] = _widths(given["concurrency"])
    if given["prices"] is not None:
        found["prices"] = prices_of(given["prices"], "prices")
    if given["endpoints"] is not None:
        named = mapping(given["endpoints"], "endpoints")
        found["endpoints"] = {name: _endpoint(each, f"endpoints.{name}") for name, each in named.items()}
    return found


def prices_of(table: Any, where: str) -> dict[str, Price]:
    """Prices by the name of a model or deployment."""
    found = {name: one(Price, each, f"{where}.{name}") for name, each in mapping(table, where).items()}
    for name, price in found.items():
        if any(part is not None and part < 0 for part in price):
            raise RecipeError(f"`{where}.{name}`: a price cannot be negative", where=f"{where}.{name}")
    return found


def _widths(given: Any) -> Any:
    widths = adapted(int | dict[str, int], given, "concurrency")
    for width in widths.values() if isinstance(widths, dict) else (widths,):
        if width < 1:
            raise RecipeError(f"`concurrency` is {width}, expected at least 1 call at once", where="concurrency")
    return widths


def _endpoint(given: Any, where: str) -> Any:
    """An endpoint, a pool of them, or the arguments of a library that runs in this process."""
    if isinstance(given, list | tuple):
        return [_endpoint(each, f"{where}.{place}") for place, each in enumerate(given)]
    if isinstance(given, Endpoint) or (isinstance(given, Mapping) and "url" not in given):
        return given
    return one(Endpoint, given, where, "url")


def mapping(table: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise RecipeError(f"`{where}` must be a mapping from names", where=where)
    return table


def one(kind: type[T], value: Any, where: str, shorthand: str | None = None) -> T:
    """One record; a bare value stands for the field `shorthand`."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping) and shorthand is not None:
        value = {shorthand: value}
    if isinstance(value, Mapping):
        check_names(value, _field_names(kind), where)
    found: T = adapted(kind, value, where)
    return found


def adapted(kind: Any, value: Any, where: str) -> Any:
    """The value as this type; raises `RecipeError` with its place."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([where, *(str(part) for part in first["loc"])])
        raise RecipeError(f"`{place}`: {first['msg']}", where=place) from None


def check_names(table: Mapping[str, Any], names: list[str], where: str) -> None:
    """Raise `RecipeError` for a name that is none of these, with the one that was probably meant."""
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(names)}."
            raise RecipeError(f"`{key}` is not a setting of `{where}`", hint, where=f"{where}.{key}")


def _field_names(kind: Any) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [entry.name for entry in dataclasses.fields(kind)]
    return list(kind.model_fields if hasattr(kind, "model_fields") else kind._fields)
