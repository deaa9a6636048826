"""`init`, `log`, `finish`: a run of one's own in the experiment store, in the shape known from other trackers."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from typing import Any

from ..core.execution import environment
from .run import Run

_current: Run | None = None


def init(
    project: str | os.PathLike[str] = "out",
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    id: str | None = None,
) -> Run:
    """Begin a run in the session folder `project`, or go on with the run `id`; `log` and `finish` mean it from now on.

    A run that is still open is finished first. A program that ends without `finish` is closed at its exit.
    """
    global _current
    if _current is None:
        atexit.register(_at_exit)
    else:
        _current.finish()
    _current = Run.start(project, name=name, config=config, id=id, environment=environment())
    return _current


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """Log metrics of the run that `init` began. Never raises; without a run it says so once."""
    if _current is None:
        _say_once()
    else:
        _current.log(values, step)


def finish() -> None:
    """Close the run that `init` began."""
    global _current
    if _current is not None:
        _current.finish()
        _current = None


_said = False


def _say_once() -> None:
    global _said
    if not _said:
        _said = True
        print("stillhouse: `log` without a run: nothing is recorded; call `init` first", file=sys.stderr)


def _at_exit() -> None:
    if _current is not None:
        _current.finish()
