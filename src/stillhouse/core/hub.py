"""Which commit a name on the Hugging Face hub stands for, and its files on this machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from .errors import RecipeError
from .files import InputFile

Kind = Literal["model", "dataset"]

_commits: dict[tuple[Kind, str, str | None], str] = {}
_lock = threading.Lock()


class HubName(NamedTuple):
    """A repository on the hub, the revision that is meant, and which step names it (for messages)."""

    name: str
    revision: str | None
    kind: Kind
    step: str


class HubFiles(InputFile):
    """Files of a hub name or a local folder, as a field of a step: what they are, `identity_of` the name tells.

    A name counts by the commit that it stands for now, a folder by its content.
    """

    __slots__ = ("_identity_of", "name", "revision")

    def __init__(self, name: str, revision: str | None, identity_of: Callable[[str, str | None], str]) -> None:
        super().__init__(name if revision is None else f"{name}@{revision}")
        self.name = name
        self.revision = revision
        self._identity_of = identity_of

    @property
    def digest(self) -> str:
        return self._identity_of(self.name, self.revision)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit already, which no push can move."""
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None


def commit_of(repository: HubName, patterns: Sequence[str]) -> str:
    """The commit that the name stands for, asked once in a process: an answer must not change while a plan runs.

    `patterns` name small files that are fetched along: asking for a file is what tells the commit, with a network or
    without.
    """
    if repository.revision is not None and is_commit(repository.revision):
        return repository.revision
    key = (repository.kind, repository.name, repository.revision)
    with _lock:
        if key not in _commits:
            _commits[key] = fetch_files(repository, patterns).name
        return _commits[key]


def fetch_files(repository: HubName, patterns: Sequence[str]) -> Path:
    """The folder that holds the repository's files that match; those that are in the hub's cache are not fetched.

    Raises `RecipeError` for a name or revision that does not exist, for a gated one, and where the hub is not reached.
    """
    try:
        from ._hub import fetched
    except ModuleNotFoundError as error:
        extra = "train" if repository.kind == "model" else "hub"
        place = f"there is no folder `{repository.name}`, and " if repository.kind == "model" else ""
        raise RecipeError(
            f"{repository.step}: {place}without `{error.name}` the hub cannot be asked",
            f"Check the path, or `pip install 'stillhouse[{extra}]'`.",
        ) from error
    return fetched(repository, patterns)


def names_of_files(repository: HubName, commit: str) -> list[str]:
    """All files of a commit, by name, sorted."""
    from ._hub import listed

    return listed(repository, commit)
