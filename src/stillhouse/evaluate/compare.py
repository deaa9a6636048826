"""Models compared on the same held-out rows."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.part import Part
from ..core.step import Step
from ..measure.exact_match import ExactMatch
from ..measure.score import Metric
from .predict import Predict, asking


class Compare(Step[Report], tag="evaluate.compare/2"):
    """Scores of several models on the rows of `on`, and how `after` differs from each of the others, row by row.

    A model is a step that makes one, the name of weights (hub name or folder), an `Ask`, or rows of predictions
    (`Predict`, `NearestNeighbour`, or any rows with the same questions and a column `reply`). What is no predictions is
    asked by a `Predict` on `on`, which is a step of its own: scoring again asks nothing again.

    `input_column` holds the question, a text or messages; what is expected stands in the column that the first metric
    names. A reply that is no text is read as JSON, None as an empty one.

    A generation that went wrong (cut, empty, refused, failed, missing) scores 0 and is counted apart from wrong
    answers. Of each metric the report holds: scores with intervals (Wilson for scores of 0 and 1, bootstrap over rows
    for others), the paired difference with a bootstrap interval, an exact p (McNemar or sign flips) and its Holm
    correction, flips each way with their rows, and the same for each value of each column in `slices`. Files:
    `report.json`, `report.txt`, `items.parquet` with a line for each row and model.
    """

    models: dict[str, Step[Rows]] = Field(min_length=1)
    on: Step[Rows]
    metrics: tuple[Part, ...] = Field((ExactMatch(),), min_length=1, description="the first one leads")
    input_column: str = "input"
    slices: tuple[str, ...] = Field((), description="columns of `on` with few values")
    after: str | None = Field(None, description="the model the others are held against; None: the last one named")
    max_tokens: int | None = Field(None, ge=1, description="longest reply of models that are asked here")
    alpha: float = Field(0.05, gt=0, lt=0.5)
    resamples: int = Field(2000, ge=1000)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _ask_models(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("models"), Mapping):
            return given
        on, longest, column = given.get("on"), given.get("max_tokens"), given.get("input_column", "input")
        models = {str(name): _predictions(model, on, longest, column) for name, model in given["models"].items()}
        after = given.get("after")
        return {**given, "models": models, "after": next(reversed(models), None) if after is None else after}

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, metrics: tuple[Part, ...]) -> tuple[Part, ...]:
        for metric in metrics:
            if not isinstance(metric, Metric):
                raise ValueError(f"`{type(metric).__name__}` is no metric: it has no `name` or cannot be called")
        names = [metric.name for metric in metrics if isinstance(metric, Metric)]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics need different names, these are {', '.join(names)}")
        return metrics

    @model_validator(mode="after")
    def _known_after(self) -> "Compare":
        if self.after not in self.models:
            raise ValueError(f"`after` is `{self.after}`, which is none of the models {', '.join(self.models)}")
        return self

    def identity(self) -> dict[str, Any]:
        """The fields and the order of the models, which is the report's; `max_tokens` counts where it is used."""
        counted = {name: value for name, value in self.values().items() if name != "max_tokens"}
        return {**counted, "order": tuple(self.models)}

    def run(self, context: Context) -> None:
        from ._compare import compare

        compare(self, context)


def _predictions(model: Any, on: Any, max_tokens: int | None, input_column: str) -> Any:
    if isinstance(model, Step) and issubclass(type(model).makes(), Rows):
        return model
    return Predict(rows=on, by=asking(model, max_tokens), input_column=input_column)
