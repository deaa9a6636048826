"""Exact nearest neighbours by an inverted index over character n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.errors import RecipeError
from ..measure.score import expected_text
from ..text.ngrams import words
from ._predict import question

if TYPE_CHECKING:
    from ..core.context import Context
    from .neighbour import NearestNeighbour


def answer_all(step: NearestNeighbour, context: Context) -> None:
    """Write a prediction for each row of `step.on`."""
    ids: list[str] = []
    inputs: list[str] = []
    outputs: list[str] = []
    for row in context.get(step.rows):
        output = expected_text(row, step.output_column)
        if output is not None:
            ids.append(row["_id"])
            inputs.append(_text(question(row, step.input_column)))
            outputs.append(output)
    if not ids:
        raise RecipeError(
            "`NearestNeighbour` has no row with an answer to give", f"Look at the column `{step.output_column}`."
        )
    index = Index(inputs, step.shortest, step.longest)
    source = context.get(step.on)
    with context.rows() as writer:
        for done, row in enumerate(source, 1):
            place, similarity = index.nearest(_text(question(row, step.input_column)))
            content = {name: value for name, value in row.items() if not name.startswith("_")}
            found = {"reply": outputs[place], "finish": "stop", "error": None, "neighbour": ids[place]}
            writer.emit({**content, **found, "similarity": similarity}, parents=[row["_id"], ids[place]])
            if done % 256 == 0:
                context.progress(done, len(source))
                context.check_stop()


class Index:
    """Texts as TF-IDF vectors, kept as postings: for each n-gram the texts that hold it and its weight there."""

    def __init__(self, texts: Sequence[str], shortest: int, longest: int) -> None:
        self._sizes = (shortest, max(shortest, longest))
        self._num_texts = len(texts)
        counts = [Counter(ngrams(text, *self._sizes)) for text in texts]
        frequency = Counter(term for count in counts for term in count)
        self._idf = {term: 1.0 + np.log((1 + len(texts)) / (1 + number)) for term, number in frequency.items()}
        postings: dict[str, tuple[list[int], list[float]]] = {term: ([], []) for term in frequency}
        for place, count in enumerate(counts):
            weights = {term: (1 + np.log(number)) * self._idf[term] for term, number in count.items()}
            norm = np.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
            for term, weight in weights.items():
                places, values = postings[term]
                places.append(place)
                values.append(float(weight / norm))
        self._postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {
            term: (np.array(places), np.array(values)) for term, (places, values) in postings.items()
        }

    def similarities(self, text: str) -> NDArray[np.float64]:
        """Cosine of `text` with each indexed text; n-grams that no text holds count in its length alone."""
        unseen = 1.0 + np.log(1 + self._num_texts)
        total = np.zeros(self._num_texts)
        squares = 0.0
        for term, number in sorted(Counter(ngrams(text, *self._sizes)).items()):
            weight = float(1 + np.log(number)) * self._idf.get(term, unseen)
            squares += weight * weight
            if term in self._postings:
                places, values = self._postings[term]
                total[places] += weight * values
        return total / np.sqrt(squares) if squares else total

    def nearest(self, text: str) -> tuple[int, float]:
        """Place and similarity of the most similar text, of equal ones (to 12 digits) the first."""
        found = np.round(self.similarities(text), 12)
        place = int(found.argmax())
        return place, float(found[place])


def ngrams(text: str, shortest: int, longest: int) -> Iterable[str]:
    """Character n-grams of the words of `text`, each padded with a space at both ends."""
    for word in words(text):
        padded = f" {word} "
        for size in range(shortest, longest + 1):
            for start in range(len(padded) - size + 1):
                yield padded[start : start + size]


def _text(asked: object) -> str:
    return asked if isinstance(asked, str) else "\n".join(str(message.get("content", "")) for message in asked)  # type: ignore[attr-defined]
