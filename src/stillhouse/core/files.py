"""An input file as a field of a step: it counts by its content, not by its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .errors import RecipeError
from .keys import file_digest


class InputFile:
    """Path of a file that a step reads. Moving the file changes nothing; editing it makes another step."""

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str] | InputFile) -> None:
        self.path: Path = path.path if isinstance(path, InputFile) else Path(path)

    @property
    def digest(self) -> str:
        """Digest of the content; raises `RecipeError` when the file cannot be read."""
        try:
            return file_digest(self.path)
        except FileNotFoundError as error:
            raise RecipeError(f"there is no file `{self.path}`", _nearby(self.path)) from error
        except IsADirectoryError as error:
            raise RecipeError(f"`{self.path}` is a folder, not a file") from error
        except OSError as error:
            raise RecipeError(f"`{self.path}` cannot be read: {error.strerror}") from error

    def beside(self, folder: Path) -> InputFile:
        """The same, counted from `folder` where its path is relative; of what is no path, itself."""
        return type(self)(folder / self.path) if type(self) is InputFile and not self.path.is_absolute() else self

    def relative_to(self, folder: Path) -> InputFile:
        """The same, as a path from `folder`; of what is no path, itself."""
        return type(self)(os.path.relpath(self.path, folder)) if type(self) is InputFile else self

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"InputFile({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InputFile) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        del schema, handler
        return {"type": "string", "format": "path"}

    @classmethod
    def _validated(cls, value: Any) -> InputFile:
        if isinstance(value, InputFile | str | os.PathLike):
            return cls(value)
        raise ValueError("expected the path of a file")


def _nearby(path: Path) -> str:
    """A hint: the most similar file beside the missing one, else where it was looked for."""
    import difflib

    folder = path.parent if str(path.parent) else Path(".")
    if not folder.is_dir():
        return f"The folder `{folder}` does not exist either (looked from {os.getcwd()})."
    close = difflib.get_close_matches(path.name, sorted(os.listdir(folder)), n=1)
    return f"Did you mean `{folder / close[0]}`?" if close else f"Looked in {folder.resolve()}."
