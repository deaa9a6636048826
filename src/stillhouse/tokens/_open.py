"""From what a user names to open token stores."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ..core.artifact import Artifact, Files, Model, Rows, Tokens
from ..core.errors import RecipeError
from ..core.session import Session
from ..core.step import Step
from ..core.store import Store, read_record
from ..rows.import_ import Import, behind, places_behind
from ..text.pretrained_tokenizer import tokenizer_step
from ._remote import open_remote
from .mixing import TokenSource
from .source import Source
from .store import TokenStore
from .tokenize import Tokenize

Tokenizer = Step[Files] | Step[Model] | str | Path
"""A step that makes a tokenizer or a model, a name on the hub (`Qwen/Qwen3-0.6B`), or a folder."""

_told: set[Path] = set()


def open_stores(
    sources: Mapping[str, TokenSource], tokenizer: Tokenizer | None, session: Session | None
) -> dict[str, TokenStore]:
    """The store of each source. Those that are still to be made are made in `session`, at the same time.

    Without a session there is one over the folder `out`; it says so, once in a process.
    """
    read = None if tokenizer is None else tokenizer_step(tokenizer)
    steps: dict[str, Step[Tokens]] = {}
    for name, source in sources.items():
        if isinstance(source, Source):
            if read is None:
                raise RecipeError(
                    f"the source `{name}` is text, and there is no tokenizer to read it with", "Give `tokenizer`."
                )
            steps[name] = source.tokens(read)
        elif isinstance(source, Step):
            steps[name] = _tokenised(name, source, read)
    made: dict[str, Artifact] = {}
    if steps:
        with _opened(session) as opened:
            for name, source in sources.items():
                with _named(name):
                    _check(source)
            with told_by_source(steps):
                made = dict(zip(steps, opened.run([*steps.values()]), strict=True))
            for name, source in sources.items():
                if isinstance(source, Source) and (told := unused_rows(opened.store, made[name])):
                    warnings.warn(f"source `{name}`: {'; '.join(told)}", stacklevel=3)
    return {name: _store(made.get(name, source)) for name, source in sources.items()}


def unused_rows(store: Store, tokens: Artifact) -> list[str]:
    """What became of rows that are not among the tokens, and where they can be read: nothing is left out in silence."""
    told, rejects, coming, seen = [], [], [tokens.key], {tokens.key}
    there = "" if store.folder == Path("out") else f" --folder {shlex.quote(str(store.folder))}"
    while coming:
        record = read_record(store.artifact_folder(key := coming.pop())) or {}
        if number := record.get("counts", {}).get("failed", 0):
            told.append(
                f"{_rows(number)} failed in {record['tag'].split('/')[0]}: `stillhouse show {key[:12]} --failed{there}`"
            )
        inputs = [entry["build_key"] for entry in record.get("inputs", ())]
        if record.get("kind") == "Tokens":
            if rejected := record["facts"].get("rejected", 0):
                path = shlex.quote(str(store.artifact_folder(key) / "data"))
                rejects.append(f"{_rows(rejected)} could not be used: `stillhouse data stats {path} --rejects`")
            # Not the rows of the tokenizer: it comes second, and alone where tokens are read from elsewhere.
            inputs = inputs[: 0 if record["tag"].startswith("tokens.import/") else 1]
        coming += [entry for entry in inputs if entry not in seen]
        seen.update(inputs)
    return told + rejects


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


@contextmanager
def _opened(session: Session | None) -> Iterator[Session]:
    """The session that was given, or one that is closed afterwards."""
    if session is not None:
        yield session
        return
    with Session() as own:
        folder = own.folder.resolve()
        if folder not in _told:
            _told.add(folder)
            print(f"Tokens are kept in {folder}; give `session` for another place.", file=sys.stderr)
        yield own


def _check(source: TokenSource) -> None:
    """Look before anything runs whether the files of a source are there, and have the columns that it needs."""
    from ..rows._import import columns_told

    rows: Step[Any]
    if isinstance(source, Source):
        rows, needs = source.as_rows(), source.needs
    elif isinstance(source, Step):
        rows, needs = source, ()
    else:
        return
    for one in behind(rows):
        if isinstance(one, Import):
            columns_told(one, needs if one is rows else ())


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors say which source they are about."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"source `{name}`: {error.message}", error.hint) from error


@contextmanager
def told_by_source(steps: Mapping[str, Step[Any]]) -> Iterator[None]:
    """Errors of a run that makes the tokens of several sources say which of these they are about, and where it lies."""
    try:
        yield
    except RecipeError as error:
        found = {name: one for name, step in steps.items() for one in _own(step) if one.structure == error.step}
        if not found or len(found) == len(steps) > 1:  # what all of them need, such as the tokenizer
            raise
        named = ", ".join(f"`{name}`" for name in found)
        rows = [step.rows if isinstance(step, Tokenize) else step for step in (steps[name] for name in found)]
        places = list(dict.fromkeys(place for one in rows for place in places_behind(one)))
        reading = any(isinstance(one, Import) for one in found.values())  # which names the file, with the line
        lies = f" ({', '.join(places)})" if not reading and any(place not in error.message for place in places) else ""
        word = "source" if len(found) == 1 else "sources"
        raise RecipeError(f"{word} {named}{lies}: {error.message}", error.hint) from error


def _own(step: Step[Any]) -> Iterator[Step[Any]]:
    """What a source is made from, but for the tokenizer: its rows may be others."""
    if not isinstance(step, Tokenize):
        return behind(step)
    return iter([step, *behind(step.rows)])


def _tokenised(
    name: str, source: Step[Tokens] | Step[Rows], tokenizer: Step[Files] | Step[Model] | None
) -> Step[Tokens]:
    """The step, or that which tokenises its rows."""
    if issubclass(source.makes(), Tokens):
        return cast("Step[Tokens]", source)
    if tokenizer is None:
        raise RecipeError(
            f"the source `{name}` makes rows, and there is no tokenizer to read them with", "Give `tokenizer`."
        )
    return Tokenize(rows=cast("Step[Rows]", source), tokenizer=tokenizer)


def _store(source: TokenSource | Artifact) -> TokenStore:
    if isinstance(source, TokenStore):
        return source
    if isinstance(source, str) and "://" in source:
        return open_remote(source)
    if isinstance(source, Tokens):
        return TokenStore(source.data)
    if not isinstance(source, Path | str):
        raise RecipeError(
            f"`{source!r:.80}` is no source of tokens", "Give tokens, a step that makes them, or a folder."
        )
    folder = Path(source)
    if not folder.is_dir():
        raise RecipeError(f"there is no folder `{folder}` with tokens", "Make one with the step `Tokenize`.")
    return TokenStore(folder)
