"""Token files of other tools: Megatron, OLMo (dolma) and Arrow, into a store and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ..core.artifact import Files, Model, Tokens
from ..core.context import Context
from ..core.files import InputFile
from ..core.step import Step

if TYPE_CHECKING:
    from .store import TokenStore

Format = Literal["megatron", "olmo", "arrow"]
"""`megatron`: a `.bin` of ids and an `.idx`. `olmo`: flat `.npy` files, with `.csv.gz` of documents and label masks
where there are any. `arrow`: Arrow files with a column `input_ids`, as `datasets` saves them."""


def import_tokens(
    path: Path | str,
    format: Format,
    to: Path | str,
    *,
    vocab_size: int,
    end_ids: Sequence[int],
    pad_id: int | None = None,
    tokenizer: str = "",
) -> TokenStore:
    """A store in the new folder `to` with the documents of another tool's files.

    `path` is a file, Megatron's prefix without `.bin`, or a folder. `vocab_size` and `end_ids` are the tokenizer's, of
    which the files say nothing; `tokenizer` may hold the digest of its files. OLMo files without an index of documents
    are cut after each end token. Raises `RecipeError` for files that are damaged or do not fit, naming file and place,
    and where `to` holds anything but what an import left that was interrupted.
    """
    from ._foreign import import_files, input_files
    from ._segments import Layout

    ends = tuple(sorted(set(end_ids)))
    pad = pad_id if pad_id is not None else ends[0] if ends else 0
    layout = Layout(vocab_size, pad, ends, tokenizer=tokenizer)
    return import_files(input_files(Path(path), format), format, layout, Path(to))


def export_tokens(store: TokenStore, path: Path | str, format: Format, *, without_weights: bool = False) -> list[Path]:
    """Write the documents of a store for another tool; returns the files.

    `path` is Megatron's prefix, else a folder. A format that cannot hold the loss weights of the store is refused,
    unless `without_weights`: Megatron holds none, OLMo only masks; the weights of examples only Arrow. So is a folder
    with parts of another export that this one would leave there.
    """
    from ._foreign import export_files

    return export_files(store, Path(path), format, without_weights=without_weights)


class ImportTokens(Step[Tokens], tag="tokens.import/1"):
    """Token files of another tool as `Tokens`: `ImportTokens(path="data/web", format="megatron", tokenizer=…)`.

    Row ids come from the documents' ids, so that the same document is the same row, except that Arrow files may bring
    a column `row_id`. Ids outside the tokenizer's vocabulary are an error. Empty documents go to `rejects.jsonl`.
    """

    files: tuple[InputFile, ...] = Field(min_length=1, description="set by `path`")
    format: Format
    tokenizer: SerializeAsAny[Step[Files] | Step[Model]] = Field(description="the one that made the ids")

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _path_to_files(cls, fields: Any) -> Any:
        """`path` names a file, Megatron's prefix or a folder; what it stands for is known by content."""
        if not isinstance(fields, dict) or "path" not in fields:
            return fields
        from ._foreign import input_files

        fields = dict(fields)
        fields["files"] = tuple(input_files(Path(fields.pop("path")), fields.get("format", "megatron")))
        return fields

    def run(self, context: Context) -> None:
        from ._foreign import import_step

        import_step(self, context)
