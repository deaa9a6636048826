"""The work behind `Pretrained`: which commit a name stands for, and its files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.errors import RecipeError
from ..core.hub import HubName, commit_of, fetch_files
from ..core.keys import digest_of, file_digest

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
"""Weights, configuration, tokenizer, licence; nothing pickled and no code."""


def identity_of(name: str, revision: str | None) -> str:
    """The commit of a hub name, or the digest of a local folder's content."""
    folder = _local(name, revision)
    if folder is not None:
        return digest_of([[file, file_digest(folder / file)] for file in _files(folder)])
    return commit_of(_on_hub(name, revision), ("config.json",))


def fetch(name: str, revision: str | None, target: Path) -> dict[str, Any]:
    """Put the model's files into `target`; returns what the record should say about where they came from."""
    folder = _local(name, revision)
    if folder is not None:
        for file in _files(folder):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, target / file)  # no links: the user may write into these files
        return {"source": name, "folder_digest": identity_of(name, revision)}
    commit = identity_of(name, revision)
    snapshot = fetch_files(_on_hub(name, commit), PATTERNS)
    names = _files(snapshot)
    if not any(file.endswith(".safetensors") for file in names):
        raise RecipeError(
            f"`{name}` has no weights as safetensors, or they were not downloaded",
            "Pickled weights are never read. Offline, download the model once where there is a network.",
        )
    from .loading import link_files

    link_files(snapshot, target, names)
    return {"source": f"https://huggingface.co/{name}", "commit": commit}


def _local(name: str, revision: str | None) -> Path | None:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return None
    if revision is not None:
        raise RecipeError(f"Pretrained: `{name}` is a local folder, which has no revisions", "Leave `revision` out.")
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise RecipeError(f"Pretrained: the folder `{name}` is not a model: it has no config.json")
    return folder


def _files(folder: Path) -> list[str]:
    """The files at the folder's top, and an adapter's base, that make the model."""
    places = [folder, folder / "base"]
    found = {path for place in places for pattern in PATTERNS for path in place.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _on_hub(name: str, revision: str | None) -> HubName:
    return HubName(name, revision, "model", "Pretrained")
