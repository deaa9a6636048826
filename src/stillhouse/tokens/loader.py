"""The one loader that training reads through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..core.errors import RecipeError
from ..core.session import Session
from ._course import Change, Settings
from ._loader import Account, Loader, SeenRow
from ._open import Tokenizer, open_stores
from ._pack import Packed, packed_note
from .mixing import Mixture, TokenSource
from .packing import Method, Packing
from .store import TokenStore
from .window_shuffle import WindowShuffle

__all__ = ["get_loader", "Loader", "Settings", "Change", "SeenRow", "Account"]


def get_loader(
    data: TokenSource | Mixture,
    *,
    seq_len: int | None = None,
    batch_size: int,
    packing: Packing | Method | None = None,
    seed: int | None = None,
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
    `Packing("best_fit")`, `seed` to 0. Tokens that the step `Pack` made know all three, and a given value overrules
    them. `state` is what a former loader's `state_dict()` gave: this one then goes on there, with any number of ranks
    that divides its batch size. One source is read without end, those of a `Mixture` as often as its `max_epochs` says.

    `shuffle` puts any row of a source at any place of its epoch; `"window"` (or a `WindowShuffle`) keeps rows
    near those that lie near them, for data that is not all on this machine; False keeps their order.

    `prefetch` batches are gathered ahead by a thread, and are the same for any number. By default it is 2 where a
    source is elsewhere (`s3://…`), else 0: to copy a batch out of a file of this machine costs less than to hand it
    from thread to thread.

    Steps and files of rows (`Source`, read with `tokenizer`) are tokenised first, in `session` (default: one over the
    folder `out`), where they are found again the next time.
    """
    if isinstance(data, Mapping):
        raise RecipeError("the sources are given as a mapping", "Write `Mixture(…)` around it.")
    mixture = data if isinstance(data, Mixture) else Mixture({"data": data}, max_epochs=None)
    stores = open_stores(mixture.sources, tokenizer, session)
    packed = _as_packed(stores, seq_len, Packing(packing) if isinstance(packing, str) else packing, seed)
    settings = Settings(*packed, WindowShuffle() if shuffle == "window" else shuffle)
    if prefetch is None:
        prefetch = 2 if any(store.remote is not None for store in stores.values()) else 0
    loader = Loader(stores, settings, batch_size, mixture, rank, world_size, prefetch)
    if state is not None:
        loader.load_state_dict(state)
    return loader


def _as_packed(
    stores: Mapping[str, TokenStore], seq_len: int | None, packing: Packing | None, seed: int | None
) -> Packed:
    """Row length, packing and seed: as given, else as the tokens are packed."""
    notes = {note for store in stores.values() if (note := packed_note(store.folder)) is not None}
    options: dict[str, Any] = {"seq_len": seq_len, "packing": packing, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    ways = {note._replace(**given) for note in notes}
    if len(ways) > 1:
        missing = [f"`{name}`" for name in Packed._fields if len({getattr(way, name) for way in ways}) > 1]
        raise RecipeError("the sources are packed in different ways", f"Give {' and '.join(missing)}.")
    if ways:
        return ways.pop()
    if seq_len is None:
        raise RecipeError("there is no row length", "Give `seq_len`, or tokens that the step `Pack` has packed.")
    return Packed(seq_len, packing or Packing("best_fit"), seed or 0)
