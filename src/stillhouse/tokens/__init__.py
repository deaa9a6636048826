"""Training data as tokens: the token store, packing, mixing and the one loader that training reads through.

The public names resolve when they are first used: reading a recipe loads no numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .foreign import ImportTokens as ImportTokens
    from .foreign import export_tokens as export_tokens
    from .foreign import import_tokens as import_tokens
    from .loader import Loader as Loader
    from .loader import get_loader as get_loader
    from .mixing import Mixture as Mixture
    from .pack import Pack as Pack
    from .packing import Packing as Packing
    from .policy import NaturalMix as NaturalMix
    from .policy import OnlinePolicy as OnlinePolicy
    from .policy import Policy as Policy
    from .policy import ScheduledMix as ScheduledMix
    from .policy import StaticMix as StaticMix
    from .policy import TemperatureMix as TemperatureMix
    from .reweight import Reweight as Reweight
    from .source import Source as Source
    from .store import TokenStore as TokenStore
    from .tokenize import Tokenize as Tokenize
    from .window_shuffle import WindowShuffle as WindowShuffle

_HOME = {
    "ImportTokens": "foreign",
    "export_tokens": "foreign",
    "import_tokens": "foreign",
    "Loader": "loader",
    "get_loader": "loader",
    "Mixture": "mixing",
    "Pack": "pack",
    "Packing": "packing",
    "Policy": "policy",
    "OnlinePolicy": "policy",
    "StaticMix": "policy",
    "NaturalMix": "policy",
    "TemperatureMix": "policy",
    "ScheduledMix": "policy",
    "Reweight": "reweight",
    "WindowShuffle": "window_shuffle",
    "Source": "source",
    "TokenStore": "store",
    "Tokenize": "tokenize",
}

__all__ = [*_HOME]  # noqa: PLE0604

if not TYPE_CHECKING:  # a checker that saw this would take every misspelt name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{home}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
