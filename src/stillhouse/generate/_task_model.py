"""Running a classifier over the rows of a chunk.

Axes: `B` texts, `L` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Outcome, Row
from ..models.device import resolve_device, set_threads
from ..models.encoder import load_classifier, longest_input
from ..text.tokenizer import load_tokenizer
from ._asking import failed, refuse_taken, text_of
from ._vectors import check_columns

if TYPE_CHECKING:
    from .task_model import RunTaskModel

DIGITS = 6
Doubles = NDArray[np.float64]


def classifier(step: RunTaskModel, context: Context) -> Callable[[Sequence[Row]], list[Outcome]]:
    """The mapper; plain, so that the model works in the step's own thread."""
    rows = context.get(step.rows)
    columns = [step.column] if step.pair is None else [step.column, step.pair]
    check_columns("RunTaskModel", rows, columns)
    added = [step.label, step.score, *([] if step.scores is None else [step.scores])]
    refuse_taken("RunTaskModel", rows, added, "Give another name in `label`, `score` or `scores`.")
    model = TaskModel(step, context)

    def classify(some: Sequence[Row]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        texts: dict[int, Encoded] = {}
        for place, row in enumerate(some):
            try:
                texts[place] = model.encoded([text_of("RunTaskModel", row, column) for column in columns])
            except RowFault as fault:
                outcomes[place] = failed(fault)
        for place, found in zip(texts, model.outputs(list(texts.values())), strict=True):
            outcomes[place] = Emit(({**some[place], **model.columns(found)},))
        return [outcomes[place] for place in range(len(some))]

    return classify


class Encoded(NamedTuple):
    """The tokens of a text, or of two, and of which of the two each is."""

    ids: list[int]
    types: list[int]


class TaskModel:
    """A classifier in memory."""

    def __init__(self, step: RunTaskModel, context: Context) -> None:
        self._step = step
        options, folder = context.options, context.get(step.model).path
        set_threads(options.threads)
        self._device = resolve_device(options.device)
        self._batch = options.inference_batch
        self._tokenizer: Any = load_tokenizer(folder)
        self._model: Any = load_classifier(folder, self._device)
        config: Any = self._model.config
        self._longest = longest_input(config, self._tokenizer)
        self._labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self._several = config.problem_type == "multi_label_classification"
        self._pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else config.pad_token_id
        if self._pad is None and self._batch > 1:
            raise RecipeError(
                f"`{folder}` has no token for padding, so texts cannot be run together",
                "Use `Options(inference_batch=1)`.",
            )

    def encoded(self, texts: Sequence[str]) -> Encoded:
        """The tokens of a text, or of two; raises `RowFault` for one that is too long, where it is not to be cut."""
        cut = self._step.long == "cut" and self._longest is not None
        found = self._tokenizer(*texts, truncation=cut, max_length=self._longest if cut else None)
        ids: list[int] = found["input_ids"]
        if self._longest is not None and len(ids) > self._longest:
            raise RowFault("too_long", f"the text has {len(ids)} tokens, the model takes {self._longest}", texts[0])
        return Encoded(ids, found.get("token_type_ids", [0] * len(ids)))

    def outputs(self, texts: Sequence[Encoded]) -> list[Doubles]:
        """What the model gives for each text; those of like length are run together."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place].ids))
        found: dict[int, Doubles] = {}
        for begin in range(0, len(order), self._batch):
            places = order[begin : begin + self._batch]
            with torch.inference_mode():
                logits_BL = self._forward([texts[place] for place in places])
            found.update(zip(places, logits_BL, strict=True))
        return [found[place] for place in range(len(texts))]

    def _forward(self, texts: Sequence[Encoded]) -> Doubles:
        longest = max(1, *(len(text.ids) for text in texts))
        fields: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": [], "attention_mask": []}
        for ids, types in texts:
            missing = longest - len(ids)
            fields["input_ids"].append([*ids, *[self._pad or 0] * missing])
            fields["token_type_ids"].append([*types, *[0] * missing])
            fields["attention_mask"].append([1] * len(ids) + [0] * missing)
        if "token_type_ids" not in self._tokenizer.model_input_names:
            del fields["token_type_ids"]
        tensors = {name: torch.tensor(values, device=self._device) for name, values in fields.items()}
        logits: Doubles = self._model(**tensors).logits.double().cpu().numpy()
        return logits

    def columns(self, logits_L: Doubles) -> dict[str, Any]:
        """The new columns of a row."""
        step = self._step
        if len(logits_L) == 1 and not self._several:
            return {step.score: round(float(logits_L[0]), DIGITS)}
        if self._several:
            shares_L = 1.0 / (1.0 + np.exp(-logits_L))
        else:
            powers_L = np.exp(logits_L - logits_L.max())
            shares_L = powers_L / powers_L.sum()
        shares = [round(float(share), DIGITS) for share in shares_L]
        order = sorted(range(len(shares)), key=lambda place: (-shares[place], place))
        best: Any = self._labels[order[0]]
        if self._several:
            best = [self._labels[place] for place in order if shares[place] >= step.threshold]
        made: dict[str, Any] = {step.label: best, step.score: shares[order[0]]}
        if step.scores is not None:
            made[step.scores] = [{"label": self._labels[place], "score": shares[place]} for place in order]
        return made
