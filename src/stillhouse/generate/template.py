"""Templates of users: Jinja in a sandbox, filled with the columns of a row."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from ..core.errors import RecipeError, RowFault


class _Missing(Exception):
    """A field that is not there; `column` tells a column of the row from a field inside of one."""

    def __init__(self, name: str, column: bool) -> None:
        super().__init__(name)
        self.name, self.column = name, column


class _Strict(StrictUndefined):
    def _fail_with_undefined_error(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise _Missing(str(self._undefined_name), self._undefined_obj is missing)

    __iter__ = __str__ = __len__ = _fail_with_undefined_error
    __eq__ = __ne__ = __bool__ = __hash__ = _fail_with_undefined_error
    __contains__ = _fail_with_undefined_error


def shown(value: Any) -> Any:
    """What a value looks like in a prompt: text as it is, nothing for None, lists and dicts as JSON."""
    if isinstance(value, str | Undefined):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


class Template:
    """A compiled template; calling it with a row gives the text.

    A column that is not there raises `RecipeError` (no row can have it), a field missing inside of one `RowFault`; both
    name the row and what exists.
    """

    def __init__(self, source: str) -> None:
        try:
            self._plain = _plain_parts(source)
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise RecipeError(f"the template cannot be read: line {error.lineno}: {error.message}") from error

    def __call__(self, row: Mapping[str, Any]) -> str:
        if self._plain is not None:
            try:
                return self._plain(row)
            except KeyError:
                pass  # the slow way says what is missing
        try:
            return self._template.render(_columns(row))
        except _Missing as error:
            raise _named(error, row) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise RowFault("error", f"the template cannot be filled: {error}") from error


def columns_read(*sources: str | None) -> tuple[str, ...]:
    """The columns that templates may read, each once."""
    found = [name for source in sources if source for name in _names_in(source)]
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=256)
def _names_in(source: str) -> tuple[str, ...]:
    return tuple(sorted(meta.find_undeclared_variables(_nameless().parse(source))))


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name[:1] != "_"}


def _named(missing: _Missing, row: Mapping[str, Any]) -> Exception:
    columns = list(_columns(row))
    there = ", ".join(f"`{name}`" for name in columns) or "none"
    where = f"row {row.get('_id', '?')}"
    if not missing.column:
        return RowFault(
            "invalid", f"{where}: there is no field `{missing.name}` where the template looks for it; columns: {there}"
        )
    close = difflib.get_close_matches(missing.name, columns, n=1)
    hint = f"Did you mean `{close[0]}`? " if close else ""
    return RecipeError(f"{where} has no column `{missing.name}`", f"{hint}The columns are {there}.")


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(
        undefined=_Strict, finalize=shown, autoescape=False, keep_trailing_newline=True, extensions=["jinja2.ext.do"]
    )
    # What a row asks must not change from one run to the next.
    del found.filters["random"], found.globals["lipsum"]
    return found


@functools.cache
def _nameless() -> ImmutableSandboxedEnvironment:
    """The same without `range` and other names of Jinja's own: a column that is called so stands before them."""
    found = _environment().overlay()
    found.globals = {}
    return found


def _plain_parts(source: str) -> Callable[[Mapping[str, Any]], str] | None:
    """A function for a template of texts and column names alone, ten times as fast as Jinja; None for any other."""
    names: list[str] = []
    texts = [""]  # around the columns
    for node in _environment().parse(source).body:
        if not isinstance(node, nodes.Output):
            return None
        for item in node.nodes:
            if isinstance(item, nodes.TemplateData):
                texts[-1] += item.data
            elif isinstance(item, nodes.Name) and item.name[:1] != "_" and item.name not in _environment().globals:
                names.append(item.name)
                texts.append("")
            else:
                return None
    return functools.partial(_filled, "%s".join(text.replace("%", "%%") for text in texts), names)


def _filled(form: str, names: Sequence[str], row: Mapping[str, Any]) -> str:
    return form % tuple([_text(row[name]) for name in names])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(shown(value))
