"""Rows marked by a verifier."""

from collections.abc import Mapping
from typing import Any

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..measure.verify import Verifying
from .checks import Column


class Verify(MapStep, tag="generate.verify/1"):
    """Adds `verified`, whether `where` accepts the reply in `column`, and `verified_reason`, why it does not.

    Every row stays; `Keep` drops those that are not accepted. A row without a reply is not verified. The share of
    accepted rows, with its interval, stands in the record's facts.
    """

    where: Verifying
    column: str = "output"
    name: Column = "verified"

    def mapper(self, context: Context) -> Mapper:
        from ._verify import verifying

        return verifying(self, context)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """The share of accepted rows with Wilson's interval."""
        from ._verify import summary

        return summary(self, made)
