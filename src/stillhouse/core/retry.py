"""Which rows of a result are tried again, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .artifact import Artifact, Rows
from .errors import EXHAUSTED, RecipeError

KINDS = ("refused", "cut", "invalid", "empty", "degenerate", "too_long", "exhausted", "rejected", "error")
FAILED = "failed"
"""Stands for all kinds."""


@dataclass(frozen=True)
class Retry:
    """Rows that failed with one of `kinds` (None: with any) are tried again, asked with `asking` changed."""

    kinds: frozenset[str] | None = None
    asking: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, only: str | Sequence[str], asking: Mapping[str, Any] | None = None) -> Retry:
        """Checked; raises `RecipeError` for a kind that does not exist."""
        kinds = (only,) if isinstance(only, str) else tuple(only)
        for kind in kinds:
            if kind not in (*KINDS, FAILED):
                raise RecipeError(f"rows do not fail as `{kind}`", f"Give one of {', '.join((FAILED, *KINDS))}.")
        return cls(None if FAILED in kinds or not kinds else frozenset(kinds), dict(asking or {}))

    @property
    def leaves_unanswered(self) -> bool:
        """Whether rows without an answer, which every run asks again, are not meant this time."""
        return self.kinds is not None and EXHAUSTED not in self.kinds

    def takes(self, kind: str) -> bool:
        return self.kinds is None or kind in self.kinds

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        told: dict[str, Any] = {"only": sorted(self.kinds) if self.kinds else [FAILED]}
        return {**told, "asking": dict(self.asking)} if self.asking else told

    def num_rows(self, artifact: Artifact) -> int:
        """How many rows of a result it would try again."""
        if not isinstance(artifact, Rows) or not artifact.record.get("counts", {}).get("failed"):
            return 0
        from ._retry import chosen_rows

        return len(chosen_rows(artifact, self))
