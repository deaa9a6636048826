"""The one loader that training reads through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.session import Session
from ._course import Change, Settings
from ._loader import Account, Loader, SeenRow
from ._open import Tokenizer, open_stores
from .mixing import Mixture, TokenSource
from .packing import Packing

__all__ = ["get_loader", "Loader", "Settings", "Change", "SeenRow", "Account"]


def get_loader(
    data: TokenSource | Mixture,
    *,
    seq_len: int,
    batch_size: int,
    packing: Packing | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
    prefetch: int = 0,
    state: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    session: Session | None = None,
) -> Loader:
    """A loader over one source of tokens or a mixture of several.

    `seq_len` is the tokens of a row; `batch_size` the rows of a step, all ranks together. `packing` defaults to
    `Packing("best_fit")`. `state` is what a former loader's `state_dict()` gave: this one then goes on there, with any
    number of ranks. `prefetch` batches are gathered ahead by a thread; batches are the same for any number.

    Steps and files of rows (`Source`, read with `tokenizer`) are tokenised first, in `session` (default: one over the
    folder `out`), where they are found again the next time.
    """
    mixture = data if isinstance(data, Mixture) else Mixture({"data": data}, max_epochs=None)
    stores = open_stores(mixture.sources, tokenizer, session)
    settings = Settings(seq_len, packing or Packing("best_fit"), seed, shuffle)
    loader = Loader(stores, settings, batch_size, mixture, rank, world_size, prefetch)
    if state is not None:
        loader.load_state_dict(state)
    return loader
