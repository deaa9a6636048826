"""Opening session folders: for work, and for a look."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import say
from .parser import FOLDER

if TYPE_CHECKING:
    from ..calls.budget import Budget
    from ..core.session import Session
    from ..core.store import Store
    from ..recipes.settings import SessionSettings


def open_store(folder: str | Path) -> Store:
    """The store of a session folder that exists; raises `StoreError` with the folders nearby that are one."""
    from ..core.errors import StoreError
    from ..core.store import Store

    path = Path(folder)
    if not (path / "artifacts-v1").is_dir():
        near = sorted(entry.parent for entry in Path(".").glob("*/artifacts-v1"))
        hint = f"Name it with `--folder`. Session folders here: {', '.join(map(str, near)) or 'none yet'}."
        raise StoreError(f"`{path}` is not a session folder", hint)
    return Store(path, warn=say)


def open_session(folder: str | Path, settings: SessionSettings, arguments: argparse.Namespace, **more: Any) -> Session:
    """A session as the recipe file and, before it, the command line want it."""
    from ..core.session import Session

    given = vars(arguments)
    options = {name: given[name] for name in ("device", "threads") if given.get(name) is not None}
    budget = _budget(settings.budget, given)
    return Session(
        folder,
        options=settings.options.model_copy(update=options),
        endpoints=settings.endpoints or None,
        budget=budget,
        concurrency=given.get("concurrency") or settings.concurrency,
        prices=settings.prices or None,
        patience=settings.patience,
        engine=given.get("engine") or settings.engine,
        **{"batch": _batch(settings, given), **more},
    )


def _budget(own: Budget | None, given: dict[str, Any]) -> Budget | None:
    """The recipe file's limits, with those of the command line in their place."""
    from ..calls.budget import Budget

    limits = {"usd": "budget", "per_day": "budget_per_day", "per_step": "budget_per_step"}
    changed = {name: given[option] for name, option in limits.items() if given.get(option) is not None}
    return replace(own or Budget(), **changed) if changed else own


def _batch(settings: SessionSettings, given: dict[str, Any]) -> Any:
    """Whether batch jobs are used: by `--batch` and `--wait`, else as the recipe file says."""
    from ..calls.batch.settings import Batching, batching

    chosen = batching(True if given.get("batch") else settings.batch)
    if given.get("wait"):
        return replace(chosen or Batching(), wait=True)
    return settings.batch if chosen is None else chosen


def work_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of commands that make something: where and how, never what."""
    group = parser.add_argument_group("where and how (no result depends on these)")
    group.add_argument("--yes", action="store_true", help="go on without asking, though it costs money")
    group.add_argument("--budget", type=float, metavar="USD", help="stop cleanly before this much is spent")
    group.add_argument("--budget-per-day", type=float, metavar="USD", help="the same for a day (UTC) of the folder")
    group.add_argument("--budget-per-step", type=float, metavar="USD", help="the same for each step")
    text = "ask in batch jobs, at half the price: submits and ends; the same command collects later"
    group.add_argument("--batch", action="store_true", help=text)
    group.add_argument("--wait", action="store_true", help="with `--batch`: stay until the jobs are done")
    group.add_argument("--concurrency", type=int, metavar="N", help="model calls at once")
    group.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps")
    group.add_argument("--threads", type=int, metavar="N", help="threads of numerical libraries")
    group.add_argument("--engine", help="where map steps run: ray, ray://host:10001 or ray:host:6379")
    group.add_argument("--quiet", action="store_true", help="no progress on stderr")


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """What `plan`, `run` and `why` take to say which recipe."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file (YAML)")
    changes_argument(parser)
    folder_argument(parser)


def changes_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NODE.FIELD=VALUE",
        help="change one value of the recipe; may be given several times",
    )


def folder_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", metavar="FOLDER", help=f"the session folder (default: the recipe's `output`, or {FOLDER})"
    )
