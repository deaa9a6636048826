"""The page that tells what a run came to."""

from typing import Any

from pydantic import Field

from ..core.artifact import Model, Report, Rows
from ..core.context import Context
from ..core.step import Step


class ReportPage(Step[Report], tag="publish.report/2"):
    """One self-contained HTML page, `report.html`, and the same as data in `report.json`.

    It shows the `comparison` (scores, differences, slices, flips with their rows), the training curve of `model`, the
    data `funnel` (for each step: rows in, failed, dropped and why, kept) and what calls to each model cost. The page
    loads nothing, runs no script, escapes all that models wrote, and reads on a phone, in light and dark.
    """

    comparison: Step[Report]
    title: str = "Report"
    description: str = Field("", description="what the model is for, in a sentence")
    model: Step[Model] | None = Field(None, description="the trained model, for its curve")
    funnel: dict[str, Step[Rows]] = Field(default_factory=dict, description="label -> rows, in the order of the road")
    examples: int = Field(4, ge=0, description="flips of each kind that are shown open; the rest is folded")

    def identity(self) -> dict[str, Any]:
        """The fields and the order of the funnel."""
        return {**self.values(), "order": tuple(self.funnel)}

    def run(self, context: Context) -> None:
        from ._report import write_report

        write_report(self, context)
