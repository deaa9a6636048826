"""Words and skeletons of training inputs, and the judgement of a row against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import RecipeError
from ..core.outcome import Emit, Outcome, Row
from ..measure.score import expected_text
from ..text.ngrams import words
from .overlap import wording

if TYPE_CHECKING:
    from ..core.context import Context
    from .novelty import Novelty

ADDED = ("novelty", "familiar", "unseen_words")


@dataclass(frozen=True, slots=True)
class Known:
    """What training showed."""

    vocabulary: frozenset[str]
    frame: frozenset[str]
    skeletons: frozenset[str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None]], frame_words: int) -> Known:
        """From pairs of input and output. Keeps the distinct wordings, not the rows."""
        counts: Counter[str] = Counter()
        answered: set[str] = set()
        wordings: set[str] = set()
        for text, output in pairs:
            found = words(text)
            counts.update(found)
            wordings.add(" ".join(found))
            if output is not None:
                answered.update(words(output))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        usual = [word for word in ranked if word not in answered and not any(c.isdigit() for c in word)]
        frame = frozenset(usual[:frame_words])
        return cls(frozenset(counts), frame, frozenset(skeleton(wording.split(), frame) for wording in wordings))

    def judge(self, text: str) -> tuple[str, list[str]]:
        """`seen`, `unseen words` or `unseen skeleton`, and the unseen words."""
        found = words(text)
        unseen = sorted({word for word in found if word not in self.vocabulary})
        if unseen:
            return "unseen words", unseen
        return ("seen" if skeleton(found, self.frame) in self.skeletons else "unseen skeleton"), []


def skeleton(found: Sequence[str], frame: frozenset[str]) -> str:
    """The frame words in order, each run of others as one `_`."""
    kept: list[str] = []
    for word in found:
        if word in frame:
            kept.append(word)
        elif not kept or kept[-1] != "_":
            kept.append("_")
    return " ".join(kept)


def judge(step: Novelty, context: Context) -> Callable[[Sequence[Row]], list[Outcome]]:
    training = context.get(step.against)
    has_output = step.output_column in training.columns
    known = Known.of(
        (
            (wording(row, step.input_column), expected_text(row, step.output_column) if has_output else None)
            for row in training
        ),
        step.frame_words,
    )

    def label(rows: Sequence[Row]) -> list[Outcome]:
        return [_labelled(row, known, step.input_column) for row in rows]

    return label


def _labelled(row: Row, known: Known, column: str) -> Outcome:
    taken = [name for name in ADDED if name in row]
    if taken:
        raise RecipeError(f"the rows have a column `{taken[0]}` already", "Rename it: `Novelty` writes there.")
    novelty, unseen = known.judge(wording(row, column))
    familiar = "seen" if novelty == "seen" else "unseen"
    return Emit([{**row, "novelty": novelty, "familiar": familiar, "unseen_words": " ".join(unseen)}])
