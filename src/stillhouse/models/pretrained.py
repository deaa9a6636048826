"""A model that exists already: on the hub, or in a folder."""

from pathlib import Path

from pydantic import Field

from ..core.artifact import Model
from ..core.context import Context
from ..core.hub import HubFiles
from ..core.step import Step


class Pretrained(Step[Model], tag="models.pretrained/1"):
    """Weights and tokenizer from the hub (`Qwen/Qwen3-0.6B`) or from a local folder.

    Only safetensors and text files are taken; code that comes with a model is never run.
    """

    name: str = Field(min_length=1, description="name on the hub, or a folder")
    revision: str | None = Field(None, description="branch, tag or commit on the hub; None: its main branch")

    def identity(self) -> dict[str, HubFiles]:
        """The content, not the place or the name: a branch that moves on makes another model."""
        from ._pretrained import identity_of

        return {"weights": HubFiles(self.name, self.revision, identity_of)}

    @property
    def names_adapter(self) -> bool:
        """Whether `name` is a local folder with an adapter."""
        return (Path(self.name).expanduser() / "adapter_config.json").is_file()

    def run(self, context: Context) -> None:
        from ._pretrained import fetch

        context.note(**fetch(self.name, self.revision, Path(context.folder)))
