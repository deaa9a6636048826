"""`stillhouse data export` and `import`: tokens as other tools keep them, and back."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from . import exits
from .data_target import Target, make, open_target, session_for
from .data_tokenize import described, sources_table
from .output import print_json


def export(arguments: argparse.Namespace) -> int:
    from ..core.errors import RecipeError
    from ..tokens.foreign import export_tokens

    _, stores = open_target(arguments)
    target = Path(arguments.path)
    written: list[Path] = []
    for name, store in stores.items():
        part = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        path = target if len(stores) == 1 else target / part
        if not store.num_documents:
            raise RecipeError(f"`{name}` holds no documents to write")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written += export_tokens(store, path, arguments.format, without_weights=arguments.without_weights)
        except RecipeError as error:
            hint = (error.hint or "").replace("`without_weights`", "`--without-weights`")
            raise RecipeError(error.message, hint or None) from error
        except OSError as error:
            raise RecipeError(f"`{path}` cannot be written: {error.strerror}", "Name another place.") from error
    if arguments.json:
        print_json({"files": [str(path) for path in written]})
    else:
        print("\n".join(map(str, written)))
    return exits.DONE


def import_(arguments: argparse.Namespace) -> int:
    """Another tool's files as an artifact with a name."""
    from ..text.pretrained_tokenizer import tokenizer_step
    from ..tokens.foreign import ImportTokens
    from ..tokens.store import TokenStore

    name = arguments.name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(arguments.path).stem).strip("-._") or "tokens"
    step = ImportTokens(path=arguments.path, format=arguments.format, tokenizer=tokenizer_step(arguments.tokenizer))
    target = Target(name, steps={name: step}, folder=arguments.folder)
    with session_for(target, arguments) as session:
        made = make(session, target, arguments, name)
    entries = {name: {**described(TokenStore(artifact.data)), "key": artifact.key} for name, artifact in made.items()}
    if arguments.json:
        print_json({"name": name, "sources": entries})
    else:
        print(sources_table(entries))
    return exits.DONE
