"""How documents become rows of a fixed length."""

from typing import Any, Literal

from pydantic import Field

from ..core.part import Part

Method = Literal["best_fit", "windows", "stream", "concat", "one"]


class Packing(Part, tag="tokens.packing/1"):
    """`Packing("best_fit")` puts whole documents into as few rows as it can; documents never see each other.

    - `best_fit`: best-fit decreasing over all documents of a source; the rows are shuffled anew for each epoch.
    - `windows`: the documents are shuffled anew for each epoch and packed in windows of `window`: other neighbours
      each time, a few rows more.
    - `stream`: the documents, shuffled anew for each epoch, come one by one; each goes to the fullest of `open_rows`
      open rows in which it fits, else the fullest is closed for a new one. All are closed after `window` documents,
      so that no more than a window's plan is ever in memory: for sources that are too large to plan at once.
    - `concat`: documents one after another, cut at the rows' ends: no padding, but documents are cut.
    - `one`: one document a row, padded.

    A document longer than a row is cut into marked pieces (`split`), left out and counted (`leave_out`), or an error
    (`refuse`). None is ever shortened in silence.
    """

    method: Method = "best_fit"
    too_long: Literal["split", "leave_out", "refuse"] = Field("refuse", description="documents longer than a row")
    window: int | None = Field(
        None, ge=1, description="documents packed together: 10,000 for `windows`, 20,000 for `stream`"
    )
    open_rows: int = Field(64, ge=1, description="rows that wait for documents, for `stream`")

    def __init__(self, method: Method = "best_fit", **fields: Any) -> None:
        super().__init__(**{"method": method, **fields})

    @property
    def documents_together(self) -> int:
        """Documents of a window."""
        return self.window or (20_000 if self.method == "stream" else 10_000)

    @property
    def renewed(self) -> bool:
        """Whether each epoch is packed anew."""
        return self.method in ("windows", "stream")
