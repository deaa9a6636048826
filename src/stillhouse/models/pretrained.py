"""A model that exists already: on the hub, or in a folder."""

from pathlib import Path

from pydantic import Field

from ..core.artifact import Model
from ..core.context import Context
from ..core.files import InputFile
from ..core.step import Step


class Weights(InputFile):
    """A hub name or a local folder: counts by the commit the name stands for now, or by the folder's content."""

    __slots__ = ("name", "revision")

    def __init__(self, name: str, revision: str | None = None) -> None:
        super().__init__(name if revision is None else f"{name}@{revision}")
        self.name = name
        self.revision = revision

    @property
    def digest(self) -> str:
        from ._pretrained import identity_of

        return identity_of(self.name, self.revision)


class Pretrained(Step[Model], tag="models.pretrained/1"):
    """Weights and tokenizer from the hub (`Qwen/Qwen3-0.6B`) or from a local folder.

    Only safetensors and text files are taken; code that comes with a model is never run.
    """

    name: str = Field(min_length=1, description="name on the hub, or a folder")
    revision: str | None = Field(None, description="branch, tag or commit on the hub; None: its main branch")

    def identity(self) -> dict[str, Weights]:
        """The content, not the place or the name: a branch that moves on makes another model."""
        return {"weights": Weights(self.name, self.revision)}

    @property
    def names_adapter(self) -> bool:
        """Whether `name` is a local folder with an adapter."""
        return (Path(self.name).expanduser() / "adapter_config.json").is_file()

    def run(self, context: Context) -> None:
        from ._pretrained import fetch

        context.note(**fetch(self.name, self.revision, Path(context.folder)))
