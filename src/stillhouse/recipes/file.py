"""Recipe files: a table of nodes in YAML, or the name of a recipe function with its arguments.

```yaml
name: orders                     # what the result is called; default: the file's name
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  clean:
    uses: curate.dedup
    rows: $seeds
result: $clean
session:                         # where and how; changes no result
  concurrency: 16
```
or, in place of `nodes` and `result`, `recipe: module:function` and its arguments under `with`. `$split.test` is one
output of a node that has several. Relative paths count from the file's folder. The same models check the fields as in
Python.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..calls.ask import Ask
from ..core.errors import RecipeError
from ..core.files import InputFile
from ..core.functions import resolve
from ..core.serial import from_value, to_table
from ..core.step import Step
from ..models.pretrained import Pretrained
from ..text.pretrained_tokenizer import PretrainedTokenizer
from ._marked_yaml import read_yaml, typed
from .rewriting import Rewriter
from .settings import SessionSettings

KEYS = ("name", "output", "session", "nodes", "result", "recipe", "with")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read and checked."""

    path: Path
    name: str
    step: Step[Any]
    output: Path | None = None
    """The session's folder, where the file names one."""
    session: SessionSettings = field(default_factory=SessionSettings)
    session_table: Mapping[str, Any] = field(default_factory=dict)
    """The same as it was written."""
    nodes: Mapping[str, Step[Any]] = field(default_factory=dict)
    """The steps of the table by name; empty for a recipe function."""


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RecipeFile:
    """Read a recipe file; `overrides` are texts like `augment.factor=20`, typed as YAML types them.

    Raises `RecipeError` naming file, line, node and field, with a suggestion where one is near.
    """
    file = Path(path)
    marked = read_yaml(file_text(file), str(file))
    lines = {place: f"{file}:{line}" for place, line in marked.lines.items()}
    try:
        document = _checked(marked.value)
        for override in overrides:
            _override(document, override, lines)
        return _built(file, document)
    except RecipeError as error:
        place = line_of(lines, error.where)
        if place is None or error.where is None:
            raise RecipeError(f"{file}: {error.message}", error.hint) from error.__cause__
        raise RecipeError(f"{place}: {error.message}", error.hint, where=error.where) from error.__cause__


def recipe_table(step: Step[Any], folder: Path) -> dict[str, Any]:
    """The table of a step for a file in `folder`: paths of input files are written relative to it."""

    def relative(value: Any) -> Any:
        return value.relative_to(folder) if isinstance(value, InputFile) else value

    return to_table(Rewriter(value=relative)(step))


def file_text(file: Path) -> str:
    """What stands in a file; raises `RecipeError` where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        InputFile(file).digest  # noqa: B018 - raises with what lies nearby
        raise
    except IsADirectoryError as error:
        raise RecipeError(f"`{file}` is a folder, not a recipe file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"`{file}` is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from error
    except OSError as error:
        raise RecipeError(f"`{file}` cannot be read: {error.strerror}") from error


def _checked(document: Any) -> dict[str, Any]:
    """The document, if its outline is a recipe's."""
    if not isinstance(document, dict) or not document:
        raise RecipeError("a recipe is a mapping", "Write `nodes:` and `result:`, or `recipe: module:function`.")
    for key in document:
        if key not in KEYS:
            raise RecipeError(f"`{key}` is not a key of a recipe", _suggestion(key, KEYS), where=key)
    by_table, by_function = {"nodes", "result"} & set(document), {"recipe", "with"} & set(document)
    if by_table and by_function:
        both = f"`{min(by_table)}` and `{min(by_function)}` do not go together"
        raise RecipeError(both, "Give `nodes` and `result`, or `recipe` and `with`.", where=min(by_function))
    needed = ("recipe",) if by_function else ("nodes", "result")
    for key in needed:
        if key not in document:
            hint = "For instance `result: $clean`, with the name of a node." if key == "result" else None
            raise RecipeError(f"`{key}` is missing", hint)
    for key in ("nodes", "with", "session"):
        if not isinstance(document.get(key, {}), dict):
            raise RecipeError(f"`{key}` must be a mapping", where=key)
    for name in document.get("nodes", {}):
        if "." in name or name.startswith("$"):
            raise RecipeError(f"`{name}` cannot be the name of a node", "Leave out `.` and `$`.", where=name)
    return document


def _override(document: dict[str, Any], override: str, lines: dict[str, str]) -> None:
    """Set one value in the document and note that it came from the command line."""
    place, equals, text = override.partition("=")
    source = f"--set {override}"
    if not equals or not place:
        raise RecipeError(f"`{source}` sets nothing", "Write it as `--set node.field=value`.")
    set_value(document, _path(document, place.split("."), source), text, source, lines)


def set_value(document: dict[str, Any], path: Sequence[str], text: str, source: str, lines: dict[str, str]) -> None:
    """Set the value at a place, typed as YAML types it; `lines` then says that it came from `source`."""
    target: Any = document
    for depth, key in enumerate(path[:-1]):
        if isinstance(target, list):
            target = target[_index(target, key, source)]
            continue
        if not isinstance(target.setdefault(key, {}), dict | list):
            single = ".".join(path[: depth + 1])
            raise RecipeError(f"{source}: `{single}` is a single value and has no `{path[depth + 1]}`")
        target = target[key]
    last: Any = _index(target, path[-1], source) if isinstance(target, list) else path[-1]
    target[last] = typed(text, source)
    lines[".".join(path)] = source


def _path(document: Mapping[str, Any], path: list[str], source: str) -> list[str]:
    """The full place of an override: nodes and arguments are meant when nothing else has that name."""
    if path[0] in ("session", "with") or (len(path) == 1 and path[0] in ("name", "output")):
        return path
    if "recipe" in document:
        return ["with", *path]
    names = list(document["nodes"])
    if path[0] not in names:
        raise RecipeError(f"{source}: there is no node `{path[0]}`", _suggestion(path[0], [*names, "session"]))
    if len(path) == 1:
        raise RecipeError(f"{source}: `{path[0]}` is a node", f"Name one of its fields: `--set {path[0]}.field=value`.")
    return ["nodes", *path]


def _index(target: list[Any], key: str, source: str) -> int:
    if not key.isdigit() or int(key) >= len(target):
        raise RecipeError(f"{source}: `{key}` is no place in a list of {len(target)}", "Places count from 0.")
    return int(key)


def _built(file: Path, document: Mapping[str, Any]) -> RecipeFile:
    session = SessionSettings.read(document.get("session", {}))
    nodes: dict[str, Step[Any]] = {}
    if "recipe" in document:
        step = _from_function(document["recipe"], document.get("with") or {})
    else:
        step, nodes = _from_table(document["nodes"], document["result"])
    from_folder = beside(file.parent)
    output = document.get("output")
    return RecipeFile(
        path=file,
        name=str(document.get("name") or re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "recipe"),
        step=from_folder(step),
        output=None if output is None else Path(os.path.normpath(file.parent / str(output))),
        session=session,
        session_table=document.get("session", {}),
        nodes={name: from_folder(node) for name, node in nodes.items()},
    )


def _from_table(table: Mapping[str, Any], result: Any) -> tuple[Step[Any], dict[str, Step[Any]]]:
    """The result and all steps by name; nodes that the result does not need are checked too."""
    step, *made = from_value([result, *(f"${name}" for name in table)], table, "result")
    if not isinstance(step, Step):
        raise RecipeError(f"`result` is not a step: {result!r}", "Name one of the nodes as `$name`.", where="result")
    return step, {name: node for name, node in zip(table, made, strict=True) if isinstance(node, Step)}


def beside(folder: Path) -> Rewriter:
    """Makes relative paths count from `folder`: input files, and models and tokenizers named by a folder."""

    def value(given: Any) -> Any:
        return given.beside(folder) if isinstance(given, InputFile) else given

    def node(given: Any) -> Any:
        if isinstance(given, Ask) and isinstance(given.model, str) and given.model.startswith("local:"):
            return given.replace(model=f"local:{folder / given.model.removeprefix('local:')}")
        if isinstance(given, Pretrained | PretrainedTokenizer) and (folder / given.name).is_dir():
            return given.replace(name=str(folder / given.name))
        return given

    return Rewriter(value=value, node=node)


def _from_function(reference: Any, arguments: Mapping[str, Any]) -> Step[Any]:
    try:
        function = resolve(reference)
    except RecipeError as error:
        raise RecipeError(error.message, error.hint, where="recipe") from None
    values = {name: from_value(value, {}, f"with.{name}") for name, value in arguments.items()}
    _check_arguments(function, values)
    try:
        step = function(**values)
    except RecipeError as error:
        raise RecipeError(f"in `{reference}`: {error.message}", error.hint, where="recipe") from error
    if not isinstance(step, Step):
        kind = type(step).__name__
        raise RecipeError(f"`{reference}` returned a {kind}, and a recipe returns a step", where="recipe")
    return step


def _check_arguments(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values()):
        for name in values:
            if name not in parameters:
                raise RecipeError(
                    f"`{name}` is not an argument of `{function.__qualname__}`",
                    _suggestion(name, list(parameters)),
                    where=f"with.{name}",
                )
    single = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, entry in parameters.items():
        if entry.kind in single and entry.default is entry.empty and name not in values:
            hint = f"Add it under `with`: `{name}: …`."
            raise RecipeError(f"`{function.__qualname__}` needs `{name}`", hint, where="with")


def _suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(known)}."


def line_of(lines: Mapping[str, str], where: str | None) -> str | None:
    """File and line of the place, or of the nearest one around it."""
    for place in _around(where or ""):
        if place in lines:
            return lines[place]
    return None


def _around(where: str) -> Iterator[str]:
    parts = where.replace("[", ".").replace("]", "").split(".")
    for length in range(len(parts), 0, -1):
        place = ".".join(parts[:length])
        yield f"nodes.{place}"
        yield place
