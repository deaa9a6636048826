"""What a distillation hands over, as one artifact whose files a folder can link to."""

from pydantic import Field

from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Step


class Deliver(Step[Report], tag="recipes.deliver/1"):
    """The files of a distillation under the names by which people look for them.

    `traces_cot.jsonl`, `traces_amplified.jsonl`, `task_policy.json`, `metrics.json`, `report.html`, and the page's
    `report.json` and `report.txt`. A name that points here keeps everything it was made from.
    """

    traces: Step[Rows]
    amplified: Step[Rows] = Field(description="the new rows that were kept, with their answers")
    policy: Step[Report]
    comparison: Step[Report]
    page: Step[Report]

    def run(self, context: Context) -> None:
        from ._deliver import write_files

        write_files(self, context)
