"""The work behind `Pretrained`: which commit a name stands for, and its files."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ..core.errors import RecipeError
from ..core.keys import digest_of, file_digest
from .loading import link_files

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
"""Weights, configuration, tokenizer, licence; nothing pickled and no code."""

_commits: dict[tuple[str, str | None], str] = {}
_lock = threading.Lock()


def identity_of(name: str, revision: str | None) -> str:
    """The commit of a hub name, or the digest of a local folder's content."""
    folder = _local(name, revision)
    if folder is not None:
        return digest_of([[file, file_digest(folder / file)] for file in _files(folder)])
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    with _lock:  # a plan asks often, and the answer must not change while it runs
        if (name, revision) not in _commits:
            _commits[name, revision] = _snapshot(name, revision, ("config.json",)).name
        return _commits[name, revision]


def fetch(name: str, revision: str | None, target: Path) -> dict[str, Any]:
    """Put the model's files into `target`; returns what the record should say about where they came from."""
    folder = _local(name, revision)
    if folder is not None:
        for file in _files(folder):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, target / file)  # no links: the user may write into these files
        return {"source": name, "folder_digest": identity_of(name, revision)}
    commit = identity_of(name, revision)
    snapshot = _snapshot(name, commit, PATTERNS)
    names = _files(snapshot)
    if not any(file.endswith(".safetensors") for file in names):
        raise RecipeError(
            f"`{name}` has no weights as safetensors, or they were not downloaded",
            "Pickled weights are never read. Offline, download the model once where there is a network.",
        )
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


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns), etag_timeout=5))
    except HFValidationError as error:
        raise RecipeError(
            f"Pretrained: there is no folder `{name}`, and it is no name on the hub either",
            "Give a folder that exists, or a name such as Qwen/Qwen3-0.6B.",
        ) from error
    except GatedRepoError as error:
        raise RecipeError(
            f"Pretrained: `{name}` is given out only to those who accepted its licence",
            "Accept it on the model's page, then log in with `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(f"Pretrained: `{name}` has no revision `{revision}`") from error
    except RepositoryNotFoundError as error:
        raise RecipeError(
            f"Pretrained: the hub knows no model `{name}`, and there is no folder of that name",
            "Check the spelling; for a private model, log in with `hf auth login`.",
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"Pretrained: `{name}` is not on this machine and the hub cannot be reached",
            "Download it once where there is a network (`hf download NAME`), give a local folder, or start from "
            "scratch with `FromScratch`.",
        ) from error
