"""Perplexities of many texts, by a local model or by counted runs of words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.context import Context
from ..core.outcome import Emit, Outcome, Row, content_of
from ..core.step import Mapper
from ._texts import text_batches
from ._word_model import WordModel
from .finding import plain_text

if TYPE_CHECKING:
    from .perplexity import Perplexity

LOGITS = 1 << 26  # numbers in one forward pass: 256 MB in float32

Losses = Callable[[Sequence[str]], "list[float | None]"]
"""The mean loss of a token of each text, in nats; None where none is judged."""


def scorer(step: Perplexity, context: Context) -> Mapper:
    """The mapper of `Perplexity`."""
    losses = _by_model(step, context) if step.model is not None else _by_words(step, context)

    def scored(rows: Sequence[Row]) -> list[Outcome]:
        texts = ["\n".join(plain_text(row[name]) for name in step.columns) for row in rows]
        found = losses(texts)
        return [
            Emit([{**content_of(row), step.name: None if loss is None else _perplexity(loss)}])
            for row, loss in zip(rows, found, strict=True)
        ]

    return scored


def _perplexity(loss: float) -> float:
    """To nine digits: the last ones of a logarithm are another processor's affair, and would be another row's id."""
    # More than a float holds would be no JSON; nothing readable is that surprising.
    return float(f"{math.exp(min(loss, 700.0)):.9g}")


def _by_words(step: Perplexity, context: Context) -> Losses:
    assert step.reference is not None
    reference = context.get(step.reference)
    columns = step.reference_columns or step.columns
    batches = text_batches(reference, columns, "Perplexity")
    model = WordModel.counted((batch.texts for batch in batches), step.order)
    return model.losses


def _by_model(step: Perplexity, context: Context) -> Losses:
    from ._model_loss import ModelLoss

    assert step.model is not None
    folder = Path(context.get(step.model).data)
    judge = ModelLoss(folder, context.options.device, context.options.threads, step.max_tokens, LOGITS)

    def losses(texts: Sequence[str]) -> list[float | None]:
        found = judge.losses(texts, context.check_stop)
        return [loss if loss is None or math.isfinite(loss) else None for loss in found]

    return losses
