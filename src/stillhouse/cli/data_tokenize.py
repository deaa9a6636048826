"""`stillhouse data tokenize`: make tokens, and say what came of the rows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import exits
from .data_target import Target, find_target, make, session_for
from .output import print_json, say, size, table

if TYPE_CHECKING:
    from ..core.artifact import Artifact
    from ..core.store import Store


def tokenize(arguments: argparse.Namespace) -> int:
    from ..core.store import Store
    from ..tokens.store import TokenStore

    target = find_target(arguments)
    folders, keys = dict(target.made), dict.fromkeys(target.made, "")
    artifacts = _of_session(target)
    if target.steps:
        with session_for(target, arguments) as session:
            made = make(session, target, arguments, arguments.name or target.name)
            artifacts |= made
            unused = all_unused(session.store, artifacts)
        folders |= {name: artifact.data for name, artifact in made.items()}
        keys |= {name: artifact.key for name, artifact in made.items()}
    else:
        if arguments.name:
            _name_what_is_there(target, artifacts, arguments.name)
        unused = all_unused(Store(Path(target.folder), warn=say), artifacts) if artifacts else []
    entries = {name: {**described(TokenStore(folder)), "key": keys[name]} for name, folder in folders.items()}
    if arguments.json:
        print_json({"name": arguments.name or target.name, "sources": entries})
    else:
        print(sources_table(entries))
    for line in unused:
        say(line)
    return exits.DONE


def all_unused(store: Store, made: Mapping[str, Artifact]) -> list[str]:
    """What became of rows that are not among the tokens; of rows that several sources have, once."""
    from ..tokens._open import unused_rows

    return list(dict.fromkeys(line for artifact in made.values() for line in unused_rows(store, artifact)))


def _of_session(target: Target) -> dict[str, Artifact]:
    """Tokens that are made already, as far as they are results of the session folder."""
    from ..core.artifact import Tokens
    from ..core.store import read_record

    place = Path(target.folder) / "artifacts-v1"
    records = {
        name: (folder.parent, read_record(folder.parent))
        for name, folder in target.made.items()
        if folder.parent.parent.parent == place
    }
    return {name: Tokens(folder, record) for name, (folder, record) in records.items() if record is not None}


def _name_what_is_there(target: Target, artifacts: Mapping[str, Artifact], name: str) -> None:
    """A further name for tokens of the session folder."""
    from ..core.errors import RecipeError
    from ..core.names import Names
    from ..core.store import Store

    if len(artifacts) != 1:
        raise RecipeError(
            f"`{target.name}` cannot be called `{name}`: only tokens of the session folder have names",
            "Leave `--name` out.",
        )
    (artifact,) = artifacts.values()
    Names(Store(Path(target.folder))).point(name, artifact.key, artifact.record["recipe_key"])


def described(store: Any) -> dict[str, Any]:
    """What a store holds, as it is listed."""
    return {
        "documents": store.num_documents,
        "tokens": store.num_tokens,
        "learnt": store.num_learnt,
        "rejected": store.num_rejected,
        "size_bytes": sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file()),
        "path": str(store.folder),
    }


def sources_table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a source, and a line of sums where there are several."""
    counts = ("documents", "tokens", "learnt", "rejected")
    lines = [
        [name, *(entry[key] for key in counts), size(entry["size_bytes"]), entry["path"]]
        for name, entry in entries.items()
    ]
    if len(lines) > 1:
        sums = [sum(entry[key] for entry in entries.values()) for key in counts]
        lines.append(["together", *sums, size(sum(entry["size_bytes"] for entry in entries.values())), ""])
    return table(lines, ["source", *counts, "size", "where"])
