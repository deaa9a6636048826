"""stillhouse: from a handful of examples, or any data set, to a small model that can be trusted.

The public names resolve when they are first used, so that `import stillhouse` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.errors import BudgetError as BudgetError
    from .core.errors import Interrupted as Interrupted
    from .core.errors import ModelError as ModelError
    from .core.errors import RecipeError as RecipeError
    from .core.errors import StillhouseError as StillhouseError
    from .core.errors import StoreError as StoreError
    from .core.errors import TrainError as TrainError

# Public name -> the module that defines it. Type checkers read the imports above; a test holds the two together.
_HOME = {
    "StillhouseError": "core.errors",
    "RecipeError": "core.errors",
    "StoreError": "core.errors",
    "ModelError": "core.errors",
    "BudgetError": "core.errors",
    "TrainError": "core.errors",
    "Interrupted": "core.errors",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
