"""From what a user names to open token stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ..core.artifact import Artifact, Files, Model, Rows, Tokens
from ..core.errors import RecipeError
from ..core.session import Session
from ..core.step import Step
from ..rows.import_ import Import
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
            with _named_by_file(steps):
                made = dict(zip(steps, opened.run([*steps.values()]), strict=True))
    return {name: _store(made.get(name, source)) for name, source in sources.items()}


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
    if not isinstance(source, Source) or source.path is None:
        return
    rows = source.as_rows()
    if isinstance(rows, Import):
        from ..rows._import import columns_told

        columns_told(rows, source.needs)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors say which source they are about."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"source `{name}`: {error.message}", error.hint) from error


@contextmanager
def _named_by_file(steps: Mapping[str, Step[Tokens]]) -> Iterator[None]:
    """The same for errors of a run, which name a file: that of one source."""
    try:
        yield
    except RecipeError as error:
        name = _source_of(error, steps)
        if name is None:
            raise
        raise RecipeError(f"source `{name}`: {error.message}", error.hint) from error


def _source_of(error: RecipeError, steps: Mapping[str, Step[Tokens]]) -> str | None:
    from ..rows._files import files_of

    if len(steps) == 1:
        return next(iter(steps))
    for name, step in steps.items():
        for made in _imports_under(step):
            try:
                names = [file.name for file in files_of(made.content)] if made.content is not None else []
            except RecipeError:
                names = [str(place) for place in made.places]
            if any(error.message.startswith(file) for file in names):
                return name
    return None


def _imports_under(step: Step[Tokens] | Step[Rows]) -> Iterator[Import]:
    if isinstance(step, Import):
        yield step
    for inner in step.inputs():
        yield from _imports_under(inner)


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
