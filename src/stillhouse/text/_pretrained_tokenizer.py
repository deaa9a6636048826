"""The work behind `PretrainedTokenizer`: which content a name stands for, and its files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.errors import RecipeError
from ..core.hub import HubName, commit_of, fetch_files
from ..core.keys import digest_of, file_digest

PATTERNS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
    *("config.json", "generation_config.json"),
)
"""What a tokenizer is made of; the last two tell its class and its end tokens where nothing else does."""
_ITSELF = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")


def identity_of(name: str, revision: str | None) -> str:
    """The commit of a hub name, or the digest of a folder's tokenizer files."""
    folder = _local(name, revision)
    if folder is None:
        return commit_of(_on_hub(name, revision), PATTERNS)
    return digest_of([[file, file_digest(folder / file)] for file in _files(folder, PATTERNS)])


def fetch(name: str, revision: str | None, target: Path) -> dict[str, Any]:
    """Put the tokenizer's files into `target`; returns what the record should say about where they came from."""
    folder = _local(name, revision)
    identity = identity_of(name, revision)
    found = fetch_files(_on_hub(name, identity), PATTERNS) if folder is None else folder
    if not _files(found, _ITSELF):
        raise RecipeError(f"PretrainedTokenizer: `{name}` has no tokenizer", "Expected a tokenizer.json there.")
    for file in _files(found, PATTERNS):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found / file, target / file)
    if folder is None:
        return {"source": f"https://huggingface.co/{name}", "commit": identity}
    return {"source": name, "folder_digest": identity}


def _local(name: str, revision: str | None) -> Path | None:
    folder = Path(name).expanduser()
    if folder.is_file():
        raise RecipeError(
            f"PretrainedTokenizer: `{name}` is a file, not a folder",
            f"Name the folder that it lies in: `{folder.parent}`." if folder.name == "tokenizer.json" else None,
        )
    if not folder.is_dir():
        return None
    if revision is not None:
        raise RecipeError(
            f"PretrainedTokenizer: `{name}` is a local folder, which has no revisions", "Leave `revision` out."
        )
    if not _files(folder, _ITSELF):
        raise RecipeError(
            f"PretrainedTokenizer: the folder `{name}` holds no tokenizer", "Expected a tokenizer.json there."
        )
    return folder


def _files(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _on_hub(name: str, revision: str | None) -> HubName:
    return HubName(name, revision, "model", "PretrainedTokenizer")
