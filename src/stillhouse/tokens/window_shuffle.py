"""How the rows of a source are shuffled."""

from pydantic import Field

from ..core.part import Part


class WindowShuffle(Part, tag="tokens.window_shuffle/1"):
    """`WindowShuffle(window=262_144)`: rows change places within windows, blocks of rows over the whole source.

    The rows of an epoch are cut into blocks of `window` / `blocks` rows that lie together; the blocks are permuted, and
    in each window of `blocks` of them the rows are. Then only the files of a window or two are needed at once, which is
    what data that does not fit on this machine wants. `get_loader(shuffle="window")` is short for it; the default,
    `shuffle=True`, puts any row at any place.
    """

    window: int = Field(262_144, ge=1, description="rows that are shuffled among each other")
    blocks: int = Field(8, ge=1, description="pieces that a window is put together from")
