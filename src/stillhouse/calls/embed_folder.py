"""What an encoder's folder says about itself, by the conventions of sentence-transformers; read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.core.errors import RecipeError, StoreError

_MODES = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
_OLD_MODES = {f"pooling_mode_{old}": mode for old, mode in (
    ("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max"), ("lasttoken", "last"),
    ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens"), ("weightedmean_tokens", "weightedmean"),
)}  # fmt: skip


class Encoder(NamedTuple):
    """A folder's parts. `weights` holds the transformer; `dense` are layers after the pooling, in order."""

    weights: Path
    pooling: str = "mean"
    dense: tuple[Path, ...] = ()
    longest: int | None = None
    """Tokens past which a text is cut; None leaves it to the tokenizer and the model."""
    lower: bool = False
    query: str = ""
    document: str = ""

    def prompt(self, role: str) -> str:
        """What stands before a query or a document unless the recipe says otherwise."""
        return self.query if role == "query" else self.document


def read_encoder(folder: Path, pooling: str | None = None) -> Encoder:
    """How texts become vectors by this folder; a folder of transformers' alone means its token vectors' mean.

    `pooling` stands in place of what the folder says.

    Raises `RecipeError` for parts that cannot be used here.
    """
    if not (folder / "modules.json").is_file():
        if not (folder / "config.json").is_file():
            raise RecipeError(
                f"`{folder}` is no encoder: it has neither `modules.json` nor `config.json`",
                "Name a folder that transformers' or sentence-transformers' `save_pretrained` wrote.",
            )
        return Encoder(folder, pooling or "mean")
    weights, found_pooling, dense = folder, "mean", []
    for module in _read(folder / "modules.json"):
        place, kind = folder / module["path"], str(module["type"]).rpartition(".")[2]
        if kind == "Transformer":
            weights = place
        elif kind == "Pooling":
            found_pooling = pooling or _mode(place)
        elif kind == "Dense":
            dense.append(place)
        elif kind != "Normalize":  # whether vectors get length 1 says the `Embedder`
            raise RecipeError(
                f"`{folder}` has a part of the kind `{kind}`, which cannot be used here",
                "Known are Transformer, Pooling, Dense and Normalize; a function of yours may call it: `python:…`.",
            )
    settings = _read(weights / "sentence_bert_config.json")
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts") or {}
    found = Encoder(
        weights, found_pooling, tuple(dense), settings.get("max_seq_length"), bool(settings.get("do_lower_case"))
    )
    document = prompts.get("document", prompts.get("passage"))
    return found._replace(query=prompts.get("query") or "", document=document or "")


def _mode(place: Path) -> str:
    settings = _read(place / "config.json")
    given = settings.get("pooling_mode")
    if given is None:
        given = [mode for name, mode in _OLD_MODES.items() if settings.get(name)] or ["mean"]
    modes = [given] if isinstance(given, str) else list(given)
    known = [_MODES.get(mode, mode) for mode in modes]
    if len(known) != 1 or known[0] not in _MODES.values():
        raise RecipeError(
            f"`{place}` asks for the pooling {' and '.join(map(repr, modes))}, which is not known here",
            f"Choose one by `Embedder(pooling=…)`: {', '.join(_MODES.values())}.",
        )
    return known[0]


def _read(path: Path) -> Any:  # JSON of any shape
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}") from error
