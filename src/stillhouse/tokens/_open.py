"""From what a user names to an open token store."""

from __future__ import annotations

from pathlib import Path

from ..core.artifact import Tokens
from ..core.errors import RecipeError
from .mixing import TokenSource
from .store import TokenStore


def open_store(source: TokenSource) -> TokenStore:
    """The store of an artifact or in a folder; an open store as it is."""
    if isinstance(source, TokenStore):
        return source
    if isinstance(source, Tokens):
        return TokenStore(source.data)
    folder = Path(source)
    if not folder.is_dir():
        raise RecipeError(f"there is no folder `{folder}` with tokens", "Make one with the step `Tokenize`.")
    return TokenStore(folder)
