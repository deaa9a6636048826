"""The one loader that training reads through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..core.errors import RecipeError
from ..core.session import Session
from ._course import Change, Settings
from ._loader import Account, Loader, SeenRow
from ._open import Tokenizer, open_stores
from ._pack import packed_note
from .mixing import Mixture, TokenSource
from .packing import Packing
from .store import TokenStore
from .window_shuffle import WindowShuffle

__all__ = ["get_loader", "Loader", "Settings", "Change", "SeenRow", "Account"]


def get_loader(
    data: TokenSource | Mixture,
    *,
    seq_len: int | None = None,
    batch_size: int,
    packing: Packing | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool | Literal["window"] | WindowShuffle = True,
    prefetch: int | None = None,
    state: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    session: Session | None = None,
) -> Loader:
    """A loader over one source of tokens or a mixture of several.

    `seq_len` is the tokens of a row; `batch_size` the rows of a step, all ranks together. `packing` defaults to
    `Packing("best_fit")`. Tokens that the step `Pack` made know both, and a given value overrules them. `state` is what
    a former loader's `state_dict()` gave: this one then goes on there, with any number of ranks.

    `shuffle` puts any row of a source at any place of its epoch; `"window"` (or a `WindowShuffle`) keeps rows
    near those that lie near them, for data that is not all on this machine; False keeps their order.

    `prefetch` batches are gathered ahead by a thread, and are the same for any number. By default it is 2 where a
    source is elsewhere (`s3://…`), else 0: to copy a batch out of a file of this machine costs less than to hand it
    from thread to thread.

    Steps and files of rows (`Source`, read with `tokenizer`) are tokenised first, in `session` (default: one over the
    folder `out`), where they are found again the next time.
    """
    mixture = data if isinstance(data, Mixture) else Mixture({"data": data}, max_epochs=None)
    stores = open_stores(mixture.sources, tokenizer, session)
    seq_len, packing = _rows_as_packed(stores, seq_len, packing)
    settings = Settings(seq_len, packing, seed, WindowShuffle() if shuffle == "window" else shuffle)
    if prefetch is None:
        prefetch = 2 if any(store.remote is not None for store in stores.values()) else 0
    loader = Loader(stores, settings, batch_size, mixture, rank, world_size, prefetch)
    if state is not None:
        loader.load_state_dict(state)
    return loader


def _rows_as_packed(
    stores: Mapping[str, TokenStore], seq_len: int | None, packing: Packing | None
) -> tuple[int, Packing]:
    """Row length and packing: as given, else as the tokens are packed."""
    notes = {note for store in stores.values() if (note := packed_note(store.folder)) is not None}
    ways = {(seq_len or note.seq_len, packing or note.packing) for note in notes}
    if len(ways) > 1:
        raise RecipeError("the sources are packed in different ways", "Give `seq_len` and `packing`.")
    if ways:
        return ways.pop()
    if seq_len is None:
        raise RecipeError("there is no row length", "Give `seq_len`, or tokens that the step `Pack` has packed.")
    return seq_len, packing or Packing("best_fit")
