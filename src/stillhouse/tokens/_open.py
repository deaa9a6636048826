"""From what a user names to open token stores."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import cast

from ..core.artifact import Artifact, Files, Model, Rows, Tokens
from ..core.errors import RecipeError
from ..core.session import Session
from ..core.step import Step
from .mixing import TokenSource
from .source import Source
from .store import TokenStore
from .tokenize import Tokenize

Tokenizer = Step[Files] | Step[Model]


def open_stores(
    sources: Mapping[str, TokenSource], tokenizer: Tokenizer | None, session: Session | None
) -> dict[str, TokenStore]:
    """The store of each source. Those that are still to be made are made in `session`, at the same time."""
    steps: dict[str, Step[Tokens]] = {}
    for name, source in sources.items():
        if isinstance(source, Source):
            if tokenizer is None:
                raise RecipeError(
                    f"the source `{name}` is text, and there is no tokenizer to read it with", "Give `tokenizer`."
                )
            steps[name] = source.tokens(tokenizer)
        elif isinstance(source, Step):
            steps[name] = _tokenised(name, source, tokenizer)
    made: dict[str, Artifact] = {}
    if steps:
        with nullcontext(session) if session is not None else Session() as opened:
            made = dict(zip(steps, opened.run([*steps.values()]), strict=True))
    return {name: _store(made.get(name, source)) for name, source in sources.items()}


def _tokenised(name: str, source: Step[Tokens] | Step[Rows], tokenizer: Tokenizer | None) -> Step[Tokens]:
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
