"""How a session works: places, widths and limits. Nothing here may change what a result is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from .errors import RecipeError
from .node import recipe_error


class Options(BaseModel):
    """Session-wide settings; they stand in each record, never in a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    threads: int | None = Field(None, ge=1)
    """Threads of numerical libraries; None leaves their own choice."""
    inference_batch: int = Field(32, ge=1)
    """Rows that a local model answers at once."""
    micro_batch: int | None = Field(None, ge=1)
    """Packed rows per forward pass in training; None takes the whole batch of a step."""
    chunk: int = Field(512, ge=1)
    """Rows that a map step handles and commits together, to begin with; it follows the pace."""
    workers: int = Field(4, ge=1)
    """Steps that may run at the same time."""
    ahead: bool = True
    """Map steps begin with the rows of a step that still runs; its last row holds up nobody's first."""
    heavy: int = Field(1, ge=1)
    """Isolated steps (trainings) that may run at the same time."""
    max_failed: float = Field(0.5, ge=0, le=1)
    """Share of failed rows past which a step stops (looked at from `first_look` rows on)."""
    first_look: int = Field(20, ge=1)
    """Rows after which a step that has nothing but failures stops."""
    call_cache_bytes: ByteSize | None = None
    """When the session ends, the oldest replies that no result names go until the call cache fits (`2GB`)."""
    cache_only: bool = False
    """Ask nobody: every reply must be kept already, as in a replay; one that is not stops the step."""
    checkpoint_seconds: float = Field(30.0, ge=0)
    """Training writes a checkpoint this often."""
    deterministic: bool = False
    """A GPU adds up in one order in training, so that a run that was stopped ends bit for bit as one that was not."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise recipe_error(type(self), error) from None

    @classmethod
    def of(cls, given: Options | Mapping[str, Any] | None) -> Options:
        """The options that were given, as such or by name; raises `RecipeError` for what is neither."""
        if given is None or isinstance(given, Mapping):
            return cls(**(given or {}))
        if isinstance(given, Options):
            return given
        raise RecipeError(f"`options` is {given!r:.60}", "Write `Options(threads=1)`, or the same as a mapping.")
