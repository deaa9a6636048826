"""A tokenizer that exists already: on the hub, or in a folder."""

from pathlib import Path

from pydantic import Field

from ..core.artifact import Files, Model
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.hub import HubFiles
from ..core.step import Step


class PretrainedTokenizer(Step[Files], tag="text.pretrained_tokenizer/1"):
    """The tokenizer of a model on the hub (`Qwen/Qwen3-0.6B`) or in a local folder, with its chat template.

    Only tokenizer files are taken, never weights or code.
    """

    name: str = Field(min_length=1, description="name on the hub, or a folder")
    revision: str | None = Field(None, description="branch, tag or commit on the hub; None: its main branch")

    def identity(self) -> dict[str, HubFiles]:
        """The content, not the place or the name: a branch that moves on makes another tokenizer."""
        from ._pretrained_tokenizer import identity_of

        return {"files": HubFiles(self.name, self.revision, identity_of)}

    def run(self, context: Context) -> None:
        from ._pretrained_tokenizer import fetch

        context.note(**fetch(self.name, self.revision, Path(context.folder)))


def tokenizer_step(tokenizer: Step[Files] | Step[Model] | str | Path) -> Step[Files] | Step[Model]:
    """The step for what a user calls a tokenizer: a step as it is; a folder, or a hub name, perhaps `@revision`."""
    if isinstance(tokenizer, Step):
        return tokenizer
    if not isinstance(tokenizer, str | Path):
        raise RecipeError(
            f"`{tokenizer!r:.80}` is no tokenizer", "Give a hub name such as Qwen/Qwen3-0.6B, a folder, or a step."
        )
    name, _, revision = str(tokenizer).partition("@")
    if not revision or Path(tokenizer).expanduser().exists():
        return PretrainedTokenizer(name=str(tokenizer))
    return PretrainedTokenizer(name=name, revision=revision)
