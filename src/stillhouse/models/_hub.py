"""Asking the hub for a model's files."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ..core.errors import RecipeError


def snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The folder with the files of a revision that match; from the local cache where they lie there already."""
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
