"""Human names for results: a name points to a build, keeps its history, and may be pinned."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RecipeError, StoreError
from .store import Store, write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OURS = ("artifacts-v1", "recipes-v1", "work-v1", "calls-v1", "set-aside-v1", "names", "runs")


@dataclass(frozen=True, slots=True)
class Name:
    """A name with the build it points to now, those before it, and those pinned against `gc`."""

    name: str
    build_key: str
    recipe_key: str
    history: tuple[dict[str, Any], ...]
    pinned: tuple[str, ...] = ()


def checked_name(name: str) -> str:
    """The name itself, if it is one: it becomes a file name beside the store's own folders."""
    if name in _OURS:
        raise RecipeError(
            f"`{name}` cannot be a name: a folder of the store is called so",
            "Choose another, for instance with a word.",
        )
    return file_name(name)


def file_name(name: str) -> str:
    """The name itself, if it stays inside the folder that it is put into."""
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"`{name}` cannot be a name",
            "Use letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 100.",
        )
    return name


def _is_entry(entry: Any) -> bool:
    """Whether a file of names holds what is written there."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("build_key", "recipe_key")):
        return False
    history, pinned = entry.get("history"), entry.get("pinned")
    return (
        isinstance(history, list)
        and isinstance(pinned, list)
        and all(isinstance(each, dict) and {"build_key", "recipe_key", "time"} <= set(each) for each in history)
        and all(isinstance(key, str) for key in pinned)
    )


class Names:
    """The `names/` folder of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.folder / "names"

    def point(self, name: str, build_key: str, recipe_key: str) -> None:
        """Let `name` mean this build from now on, and make `<folder>/<name>` a link that a person can open."""
        with self._locked(checked_name(name)):
            known = self.find(name)
            history = list(known.history) if known else []
            if not history or history[-1]["build_key"] != build_key:
                history.append({"build_key": build_key, "recipe_key": recipe_key, "time": time.time()})
            self._write(Name(name, build_key, recipe_key, tuple(history), known.pinned if known else ()))
            self._link(name, build_key)

    def find(self, name: str) -> Name | None:
        try:
            entry = json.loads((self._folder / f"{checked_name(name)}.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(
                f"`names/{name}.json` cannot be read: {error}", "Remove the file and run again."
            ) from error
        if not _is_entry(entry):
            raise StoreError(f"`names/{name}.json` does not hold a name", "Remove the file and run again.")
        return Name(name, entry["build_key"], entry["recipe_key"], tuple(entry["history"]), tuple(entry["pinned"]))

    def all(self) -> Iterator[Name]:
        for path in sorted(self._folder.glob("*.json")):
            found = self.find(path.stem)
            if found is not None:
                yield found

    def pin(self, name: str) -> None:
        """Keep the build that the name means now, whatever becomes of the name."""
        with self._locked(checked_name(name)):
            known = self.need(name)
            pinned = tuple(dict.fromkeys([*known.pinned, known.build_key]))
            self._write(Name(known.name, known.build_key, known.recipe_key, known.history, pinned))

    def remove(self, name: str) -> None:
        """Forget the name; its results stay until `gc`. A pinned name is refused."""
        known = self.need(name)
        if known.pinned:
            raise RecipeError(f"`{name}` is pinned", f"Remove `names/{name}.json` by hand if you mean it.")
        (self._folder / f"{name}.json").unlink()
        link = self._store.folder / name
        if link.is_symlink():
            link.unlink()

    def need(self, name: str) -> Name:
        """The name, or `RecipeError` with the names there are."""
        known = self.find(name)
        if known is None:
            import difflib

            names = [entry.name for entry in self.all()]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"Names here: {', '.join(names) or 'none yet'}."
            raise RecipeError(f"there is no `{name}` in `{self._store.folder}`", hint)
        return known

    def _locked(self, name: str) -> BaseFileLock:
        """Two sessions that point one name at a time would forget each other's history."""
        from filelock import FileLock

        self._folder.mkdir(exist_ok=True)
        return FileLock(self._folder / f".{name}.lock")

    def _write(self, entry: Name) -> None:
        fields = {
            "build_key": entry.build_key,
            "recipe_key": entry.recipe_key,
            "history": list(entry.history),
            "pinned": list(entry.pinned),
        }
        write_json(self._folder / f"{entry.name}.json", fields)

    def _link(self, name: str, build_key: str) -> None:
        link = self._store.folder / name
        if link.exists() and not link.is_symlink():
            return  # a folder of links (a distil run's output) already stands there
        target = os.path.relpath(self._store.artifact_folder(build_key) / "data", link.parent)
        temporary = link.with_name(f".{name}.{os.getpid()}")
        try:
            os.symlink(target, temporary)
            os.replace(temporary, link)
        except OSError:
            Path(temporary).unlink(missing_ok=True)  # no links on this file system: the name file is enough
