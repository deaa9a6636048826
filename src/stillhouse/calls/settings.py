"""What a session is told about calls, checked and brought to one form before anything is asked."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from stillhouse.core.errors import RecipeError

from .ask import scheme_of
from .batch.settings import Batching, BatchOption, batching
from .budget import Budget
from .deployment import pools
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
        found["concurrency"] = widths_of(given["concurrency"], "concurrency")
    if given["prices"] is not None:
        found["prices"] = prices_of(given["prices"], "prices")
    if given["endpoints"] is not None:
        found["endpoints"] = endpoints_of(given["endpoints"], "endpoints")
    found["batch"] = batch_of(given["batch"], "batch")
    return found


def prices_of(table: Any, where: str) -> dict[str, Price]:
    """Prices by the name of a model or deployment."""
    found = {}
    for name, each in mapping(table, where).items():
        given = each._asdict() if isinstance(each, Price) else each
        price = found[name] = one(Price, given, f"{where}.{name}")
        for part in price:
            if part is not None and not part >= 0:
                raise RecipeError(f"`{where}.{name}`: a price is 0 or more, not {part}", where=f"{where}.{name}")
    return found


def widths_of(given: Any, where: str) -> int | dict[str, int]:
    """Calls at once, for all or by name."""
    widths: int | dict[str, int] = adapted(int | dict[str, int], given, where)
    for width in widths.values() if isinstance(widths, dict) else (widths,):
        if width < 1:
            raise RecipeError(f"`{where}` is {width}, expected at least 1 call at once", where=where)
    return widths


def batch_of(given: Any, where: str) -> BatchOption:
    """True, `wait`, False, or how batch jobs are used."""
    if isinstance(given, Mapping):
        return one(Batching, given, where)
    try:
        batching(given)
    except RecipeError as error:
        raise RecipeError(error.message, error.hint, where=where) from None
    found: BatchOption = given
    return found


def endpoints_of(table: Any, where: str) -> dict[str, Any]:
    """Servers, or pools of them, by name; under `vllm:NAME` and `gguf:FILE` what the library there is given."""
    found = {}
    for name, each in mapping(table, where).items():
        in_process = isinstance(each, Mapping) and scheme_of(str(name)) in ("vllm", "gguf")
        found[name] = each if in_process else _endpoint(each, f"{where}.{name}")
    pools(found)
    return found


def _endpoint(given: Any, where: str) -> Any:
    """An endpoint, or a pool of them."""
    if isinstance(given, list | tuple):
        return [one(Endpoint, each, f"{where}.{place}", "url") for place, each in enumerate(given)]
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
