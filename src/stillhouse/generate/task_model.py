"""Labels by a classifier of this machine."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ..core.artifact import Model
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..models.pretrained import Pretrained
from .checks import Column

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class RunTaskModel(MapStep, tag="generate.run_task_model/1"):
    """Adds what a text classifier says of each row: `label`, and `score`, its probability.

    `model` is a hub name, a folder or a step that makes one; it is run here, in batches. A model with several labels at
    once gives a list of those whose probability reaches `threshold` (and the highest as `score`); one with a single
    output (a reward model, a scale of quality) gives its number as `score` and no label. Numbers are rounded to six
    digits, as far as they do not depend on what else is in a batch.

    Texts longer than the model takes are cut, or fail as `too_long`.
    """

    model: SerializeAsAny[Step[Model]] = Field(description="a step that makes it; a text is a hub name or a folder")
    column: str = Field("text", min_length=1)
    pair: str | None = Field(None, description="a second text, for models of pairs: entailment, relevance")
    label: Column = "label"
    score: Column = "score"
    scores: Column | None = Field(None, description="a column for all labels with their scores, best first")
    threshold: float = Field(0.5, ge=0, le=1)
    long: Literal["cut", "fail"] = "cut"

    if TYPE_CHECKING:
        # `model` may be a text, which is settled before the fields are checked.
        def __init__(self, **fields: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _named(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(fields.get("model"), str):
            return {**fields, "model": Pretrained(name=fields["model"])}
        return fields

    def mapper(self, context: Context) -> Mapper:
        from ._task_model import classifier

        return classifier(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """No call leaves this machine."""
        from ..core.plan import Expectation

        del session
        return Expectation(rows=rows_in, calls=0, cost_usd=0.0)
