"""How documents become rows of a fixed length."""

from typing import Any, Literal

from pydantic import Field

from ..core.part import Part

Method = Literal["best_fit", "windows", "concat", "one"]


class Packing(Part, tag="tokens.packing/1"):
    """`Packing("best_fit")` puts whole documents into as few rows as it can; documents never see each other.

    - `best_fit`: best-fit decreasing over all documents of a source; the rows are shuffled anew for each epoch.
    - `windows`: the documents are shuffled anew for each epoch and packed in windows of `window`: other neighbours
      each time, a few rows more.
    - `concat`: documents one after another, cut at the rows' ends: no padding, but documents are cut.
    - `one`: one document a row, padded.

    A document longer than a row is cut into marked pieces (`split`), left out and counted (`leave_out`), or an error
    (`refuse`). None is ever shortened in silence.
    """

    method: Method = "best_fit"
    too_long: Literal["split", "leave_out", "refuse"] = Field("refuse", description="documents longer than a row")
    window: int = Field(10_000, ge=1, description="documents packed together, for `windows`")

    def __init__(self, method: Method = "best_fit", **fields: Any) -> None:
        super().__init__(**{"method": method, **fields})
