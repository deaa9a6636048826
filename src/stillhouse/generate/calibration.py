"""How far a judge can be trusted: its scores or verdicts against those of people."""

from pydantic import model_validator

from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Step


class Calibrate(Step[Report], tag="generate.calibrate/1"):
    """A report of how far the column `judge` agrees with the column `human`; rows without a human value are left out.

    Numbers: rank correlation (Spearman's), correlation (Pearson's), how much higher the judge scores on average and the
    mean distance, each with a 95 % bootstrap interval; whole numbers also quadratic weighted kappa. Give the scales
    where they differ: both are brought to 0 … 1. Other values (a winner, yes and no): the share that is the same, with
    Wilson's interval, Cohen's kappa, and what was taken for what.
    """

    rows: Step[Rows]
    judge: str = "score"
    human: str = "human"
    judge_scale: tuple[float, float] | None = None
    human_scale: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _rising(self) -> "Calibrate":
        for name in ("judge_scale", "human_scale"):
            scale = getattr(self, name)
            if scale is not None and scale[0] >= scale[1]:
                raise ValueError(f"`{name}` is {scale}: a scale rises")
        return self

    def run(self, context: Context) -> None:
        from ._calibration import write_report

        write_report(self, context)
