"""From what a user names to tokens: a folder, a name, a file of rows, a recipe, a mix."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .opening import open_session
from .parser import FOLDER, UsageError

if TYPE_CHECKING:
    from ..core.artifact import Artifact
    from ..core.session import Session
    from ..core.step import Step
    from ..recipes.mix import Mix
    from ..recipes.settings import SessionSettings
    from ..tokens.source import Source
    from ..tokens.store import TokenStore

_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Target:
    """What was named: tokens that are there, or steps that make them."""

    name: str
    made: Mapping[str, Path] = field(default_factory=dict)
    """Folders of tokens by source."""
    steps: Mapping[str, Step[Any]] = field(default_factory=dict)
    mix: Mix | None = None
    folder: str = FOLDER
    """The session folder in which steps are made."""
    settings: SessionSettings | None = None


def find_target(arguments: argparse.Namespace) -> Target:
    """What `arguments.target` means; raises `RecipeError` with what is near it where it means nothing.

    Raises `UsageError` for options that say nothing about such a target.
    """
    found = _meant(arguments)
    what = "a mix" if found.mix is not None else "tokens" if found.made else None
    if what is not None:
        given = {"--text": arguments.text, "--template": arguments.template, "--max-length": arguments.max_length}
        if found.mix is None:
            given["--set"] = arguments.changes
        for option, value in given.items():
            if value:
                other = "Change its file, or one value of it by `--set`." if found.mix is not None else "Leave it out."
                raise UsageError(f"`{arguments.target}` is {what}, about which `{option}` says nothing", other)
    return found


def _meant(arguments: argparse.Namespace) -> Target:
    from ..core.errors import RecipeError

    text, folder = str(arguments.target), arguments.folder or FOLDER
    path = Path(text)
    if path.suffix in _YAML and "://" not in text:
        return _of_yaml(path, arguments)
    if path.is_dir():
        return _of_folder(path, arguments)
    if "://" in text or path.is_file() or any(sign in text for sign in "*?["):
        return Target(_name_of(path), steps={_name_of(path): _of_rows(text, arguments)}, folder=folder)
    found = _in_store(text, folder, arguments)
    if found is not None:
        return found
    from ..recipes.mix import find_mix, mix, mix_files

    known = [file.stem for file in mix_files()]
    if text in known:
        return _of_mix(mix(find_mix(text), arguments.changes, **_tokenizer(arguments)), text, folder)
    near = [*_names(folder), *known, *(entry.name for entry in sorted(Path(".").iterdir()))]
    close = difflib.get_close_matches(text, near, n=1)
    hint = f"Did you mean `{close[0]}`?" if close else f"Mixes: {', '.join(known)}. Results: `stillhouse show`."
    raise RecipeError(f"`{text}` is no tokens, no file of rows, no result in `{folder}` and no mix", hint)


@contextmanager
def session_for(target: Target, arguments: argparse.Namespace) -> Iterator[Session]:
    """A session in which the target's steps are made."""
    from ..recipes.settings import SessionSettings
    from .interrupt import interruptible

    settings = target.settings or SessionSettings()
    with (
        interruptible(),
        open_session(target.folder, settings, arguments, progress=not arguments.quiet) as session,
    ):
        yield session


def open_target(arguments: argparse.Namespace) -> tuple[Target, dict[str, TokenStore]]:
    """The target and its tokens, made where they are missing."""
    from ..tokens.store import TokenStore

    target = find_target(arguments)
    folders = dict(target.made)
    if target.steps:
        with session_for(target, arguments) as session:
            folders |= {name: artifact.data for name, artifact in make(session, target, arguments).items()}
    return target, {name: TokenStore(folder) for name, folder in folders.items()}


def make(
    session: Session, target: Target, arguments: argparse.Namespace, name: str | None = None
) -> dict[str, Artifact]:
    """The tokens of each source; asks first where that costs money."""
    from ..tokens._open import told_by_source

    steps = [*target.steps.values()]
    if "yes" in arguments:
        from .money import confirm, expected_bill

        for step in steps:
            confirm(expected_bill(session, step, session.plan(step)), yes=arguments.yes)
    with told_by_source(target.steps):
        made: list[Artifact] = session.run(steps, name=name if len(steps) == 1 else None)
    found = dict(zip(target.steps, made, strict=True))
    if name is not None and len(steps) > 1:
        for source, artifact in found.items():
            full = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{source}")[:100]
            session.names.point(full, artifact.key, artifact.record["recipe_key"])
    return found


def load_tokenizer_of(store: TokenStore | None, arguments: argparse.Namespace) -> Any:
    """The tokenizer that lies beside the tokens, or the one that was named; None where there is none."""
    folder = Path(arguments.tokenizer) if arguments.tokenizer else None if store is None else store.folder / "tokenizer"
    if folder is None or (not arguments.tokenizer and not folder.is_dir()):
        return None
    if not folder.is_dir():
        from ..core.session import Session
        from ..text.pretrained_tokenizer import PretrainedTokenizer

        with Session(arguments.folder or FOLDER, track=False) as session:
            folder = session.run(PretrainedTokenizer(name=arguments.tokenizer)).path
    from ..text.tokenizer import load_tokenizer

    return load_tokenizer(folder)


def _of_folder(path: Path, arguments: argparse.Namespace) -> Target:
    from ..core.errors import RecipeError

    for folder in (path, path / "data"):
        if (folder / "manifest.json").is_file():
            return Target(path.name, made={path.name: folder})
    if (path / "artifacts-v1").is_dir():
        known = ", ".join(_names(str(path))) or "none yet"
        raise RecipeError(
            f"`{path}` is a session folder, not tokens", f"Name a result of it, with `--folder`: {known}."
        )
    if arguments.text or arguments.template:
        return Target(path.name, steps={path.name: _of_rows(str(path), arguments)}, folder=arguments.folder or FOLDER)
    entries = sorted(path.iterdir())
    holds = ", ".join(f"`{entry.name}`" for entry in entries[:6]) + (" …" if len(entries) > 6 else "")
    raise RecipeError(
        f"`{path}` holds no tokens: there is no manifest.json. It holds {holds or 'nothing'}",
        "Rows are read with `--tokenizer` and `--text COLUMN` (or `--template chat`).",
    )


def _of_rows(text: str, arguments: argparse.Namespace) -> Step[Any]:
    from ..core.errors import RecipeError

    if not arguments.tokenizer:
        raise RecipeError(
            f"`{text}` holds rows, and there is no tokenizer to read them with",
            "Name one with `--tokenizer`: a name on the hub, or a folder.",
        )
    return _source(text, arguments).tokens(arguments.tokenizer)


def _source(rows: Any, arguments: argparse.Namespace) -> Source:
    """What the command line says of rows."""
    from ..core.errors import RecipeError
    from ..tokens.source import Source

    text, template = arguments.text, arguments.template
    if bool(text) == bool(template):
        raise RecipeError(
            f"there {'are both `--text` and `--template`' if text else 'is neither `--text` nor `--template`'}",
            "Write `--text COLUMN` where every token counts, or `--template chat` for conversations.",
        )
    if template and template != "chat" and "{" not in template:
        raise RecipeError(
            f"`--template {template}` is no chat template", "Write `--template chat`, or a Jinja template."
        )
    return Source(rows, text=tuple(text) if text else None, template=template, max_length=arguments.max_length)


def _of_yaml(path: Path, arguments: argparse.Namespace) -> Target:
    from ..recipes._marked_yaml import read_yaml
    from ..recipes.file import file_text, load_recipe
    from ..recipes.mix import mix

    document = read_yaml(file_text(path), str(path)).value
    if isinstance(document, dict) and "sources" in document and "result" not in document:
        return _of_mix(mix(path, arguments.changes, **_tokenizer(arguments)), path.stem, arguments.folder or FOLDER)
    recipe = load_recipe(path, arguments.changes)
    steps = _token_steps(recipe.step, {id(node): name for name, node in recipe.nodes.items()}, recipe.name, arguments)
    folder = str(arguments.folder or recipe.output or FOLDER)
    return Target(recipe.name, steps=steps, folder=folder, settings=recipe.session)


def _of_mix(found: Mix, name: str, folder: str) -> Target:
    return Target(name, steps=found.training.sources, mix=found, folder=folder)


def _tokenizer(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"tokenizer": arguments.tokenizer} if arguments.tokenizer else {}


def _token_steps(step: Step[Any], nodes: Mapping[int, str], name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The steps of a recipe that make tokens, by name; rows are tokenised as the command line says."""
    from ..core.artifact import Rows
    from ..core.errors import RecipeError

    found = list(_making_tokens(step, set()))
    if not found and step.makes() is Rows and arguments.tokenizer:
        return {name: _source(step, arguments).tokens(arguments.tokenizer)}
    if not found:
        raise RecipeError(
            f"the recipe `{name}` makes no tokens",
            "Add a step `tokens.tokenize`, or name a `--tokenizer` for its rows.",
        )
    if len(found) == 1:
        return {name: found[0]}
    labels = [nodes.get(id(one), f"tokens-{number}") for number, one in enumerate(found, 1)]
    return dict(zip(labels, found, strict=True))


def _making_tokens(step: Step[Any], seen: set[str]) -> Iterator[Step[Any]]:
    from ..core.artifact import Tokens

    if step.structure in seen:
        return
    seen.add(step.structure)
    if issubclass(step.makes(), Tokens):
        yield step
        return
    for inner in step.inputs():
        yield from _making_tokens(inner, seen)


def _in_store(text: str, folder: str, arguments: argparse.Namespace) -> Target | None:
    """A result by name or key: tokens, or the tokens that a model was trained on, or rows to tokenise."""
    from ..core.errors import RecipeError
    from ..core.store import Store
    from .records import ancestry, find

    if not (Path(folder) / "artifacts-v1").is_dir():
        return None
    store = Store(Path(folder))
    if text not in _names(folder) and not re.fullmatch(r"[0-9a-f]{6,32}", text):
        return None
    artifact = find(store, text)
    if artifact.kind == "Tokens":
        return Target(text, made={text: artifact.data}, folder=folder)
    records = [record for record in ancestry(store, artifact.key) if record.get("kind") == "Tokens"]
    if artifact.kind == "Model" and records:
        keys = [record["build_key"] for record in records]
        return Target(text, made={key[:12]: store.artifact_folder(key) / "data" for key in keys}, folder=folder)
    raise RecipeError(
        f"`{text}` is of the kind {artifact.kind}, and has no tokens",
        "Tokenise its rows: name the recipe file that makes them, with `--tokenizer`.",
    )


def _names(folder: str) -> list[str]:
    from ..core.names import Names
    from ..core.store import Store

    if not (Path(folder) / "artifacts-v1").is_dir():
        return []
    return [entry.name for entry in Names(Store(Path(folder))).all()]


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "rows"
