"""The folder of a run that a person opens: links into the store, under plain names."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import RecipeError, StoreError

COPIES = ".copies.json"
"""Names in the folder that are copies of ours, made where the file system has no links: they may be replaced."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def link_folder(folder: str | os.PathLike[str], targets: Mapping[str, str | os.PathLike[str]]) -> Path:
    """Make `folder/<name>` a relative link to each target (a file or folder), replacing links of an earlier run.

    Where links are impossible the target is copied. Other files in the folder stay as they are; raises `StoreError`
    when one stands in the way or a target does not exist, `RecipeError` for a name that could leave the folder.
    """
    place = Path(folder)
    for name, target in targets.items():
        if not _NAME.fullmatch(name):
            raise RecipeError(f"`{name}` cannot be a file name here", "Use letters, digits, `.`, `_` and `-`.")
        if not Path(target).exists():
            raise StoreError(f"`{name}` cannot be linked: there is no `{target}`", "Run the step that makes it again.")
    try:
        place.mkdir(parents=True, exist_ok=True)
        copies = _copies(place)
        for name in targets:
            _check_free(place / name, name in copies)
        for name, target in targets.items():
            if _link(Path(target), place / name):
                copies.discard(name)
            else:
                _copy(Path(target), place / name)
                copies.add(name)
        _remember(place, copies)
    except OSError as error:
        raise StoreError(f"`{place}` cannot be written: {error.strerror or error}") from error
    return place


def _check_free(path: Path, ours: bool) -> None:
    if path.is_symlink() or ours or not path.exists():
        return
    raise StoreError(
        f"`{path}` stands in the way: it is no link of an earlier run", "Move it away, or give the run another name."
    )


def _link(target: Path, path: Path) -> bool:
    """Put a relative link at `path` by one rename; False where the file system or the system does not allow links."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        source = os.path.relpath(target.resolve(), path.parent.resolve())
        os.symlink(source, temporary, target_is_directory=target.is_dir())
    except (OSError, NotImplementedError, ValueError):  # ValueError: another drive has no relative path
        return False
    _clear(path)
    os.replace(temporary, path)
    return True


def _copy(target: Path, path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    if target.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(target, temporary)
    else:
        shutil.copyfile(target, temporary)
    _clear(path)
    os.replace(temporary, path)


def _clear(path: Path) -> None:
    """Take a copied folder out of the way: no rename replaces one that is not empty."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def _copies(folder: Path) -> set[str]:
    try:
        found = json.loads((folder / COPIES).read_text())
    except (FileNotFoundError, ValueError):
        return set()
    return set(found) if isinstance(found, list) else set()


def _remember(folder: Path, copies: set[str]) -> None:
    if copies:
        (folder / COPIES).write_text(json.dumps(sorted(copies)))
    else:
        (folder / COPIES).unlink(missing_ok=True)
