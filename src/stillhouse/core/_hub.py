"""The work behind `hub`: what huggingface_hub is asked, and its errors in our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from .errors import RecipeError
from .hub import HubName

T = TypeVar("T")

_INSTEAD = {
    "model": "Download it once where there is a network (`hf download NAME`), give a local folder, or start from "
    "scratch with `FromScratch`.",
    "dataset": "Download it once where there is a network (`hf download NAME --repo-type dataset`), or name files of "
    "this machine.",
}


def fetched(repository: HubName, patterns: Sequence[str]) -> Path:
    return _asked(
        repository,
        lambda: Path(
            snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=repository.revision,
                allow_patterns=list(patterns),
                etag_timeout=5,
            )
        ),
    )


def listed(repository: HubName, commit: str) -> list[str]:
    """From the listing that the hub's cache keeps for a commit, else from the hub.

    Never from the files that lie in the cache: those may be some of them.
    """
    folder = fetched(repository._replace(revision=commit), ["README.md", ".gitattributes"])
    kept = folder.parents[1] / "trees" / f"{commit}.json"
    if kept.is_file():
        return sorted(json.loads(kept.read_text(encoding="utf-8"))["files"])
    api = HfApi()
    return _asked(
        repository,
        lambda: sorted(api.list_repo_files(repository.name, revision=commit, repo_type=repository.kind)),
    )


def _asked(repository: HubName, ask: Callable[[], T]) -> T:
    name, revision, kind, step = repository
    what = "data set" if kind == "dataset" else kind
    no_folder = "there is no folder `{name}`, and it" if kind == "model" else "`{name}`"
    try:
        return ask()
    except HFValidationError as error:
        raise RecipeError(
            f"{step}: {no_folder.format(name=name)} is no name on the hub{' either' if kind == 'model' else ''}",
            "Give a folder that exists, or a name such as Qwen/Qwen3-0.6B."
            if kind == "model"
            else "Names on the hub are `owner/name`: `hf://owner/name`.",
        ) from error
    except GatedRepoError as error:
        raise RecipeError(
            f"{step}: `{name}` is given out only to those who accepted its terms",
            f"Accept them on the {what}'s page, then log in with `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(f"{step}: `{name}` has no revision `{revision}`") from error
    except RepositoryNotFoundError as error:
        nor = ", and there is no folder of that name" if kind == "model" else ""
        raise RecipeError(
            f"{step}: the hub knows no {what} `{name}`{nor}",
            f"Check the spelling; for a private {what}, log in with `hf auth login`.",
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{step}: `{name}` is not on this machine and the hub cannot be reached", _INSTEAD[kind]
        ) from error
