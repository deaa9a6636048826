"""Data sets as functions: each returns the step that makes one, put together of the steps that one would write oneself.

Rows are a step, a file, or a list; a model is an `Ask` or its name. What a recipe does not offer is a few lines away:
take its steps and change them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..calls.ask import Ask
from ..calls.bm25 import Bm25
from ..calls.embedder import Embedder
from ..core.artifact import Rows
from ..core.step import Step
from ..curate.dedup import Dedup
from ..curate.language import Language
from ..curate.pii import Pii
from ..curate.quality import Quality
from ..generate.attributed import DataFromAttributedPrompt
from ..generate.backtranslate import Backtranslate
from ..generate.filter_with_prompt import FilterWithPrompt
from ..generate.index import Index
from ..generate.judges import PairJudge
from ..generate.preference_pairs import PreferencePairs
from ..generate.prompt import Prompt
from ..generate.retrieve import Retrieve
from ..generate.score_with_prompt import RankWithPrompt
from ..rows.columns import Rename, Select
from ..rows.combine import Concat
from ..rows.import_ import Import
from ..rows.transform import Filter
from ..text.schema import Schema

Source = Step[Rows] | str | os.PathLike[str] | Sequence[Mapping[str, Any]]
Model = Ask | str

VARIANT = """\
Rewrite the text below so that it means the same, in other words and another order. Keep names, numbers and what it asks
for. Reply with the new text alone.

{{ %s }}"""
TRANSLATE = "Translate this text into %s. Reply with the translation alone.\n\n{{ %s }}"
SAME = """\
Do these two texts say the same, so that nothing is added, left out or changed?

First: {{ %s }}

Second: {{ back }}"""
WORTH = """\
How good an answer is the text to the instruction? 5: complete, correct and to the point; 1: it answers something else.

Instruction: {{ instruction }}

Text: {{ %s }}"""
BETTER = "Which answer to this is more helpful, correct and to the point?\n\n{{ %s }}"
QUESTION = """\
Write one question that the passage answers, as somebody asks who has not seen it, and the answer, from the passage
alone, in one to three sentences.

Passage: {{ %s }}"""
GROUNDED = """\
Does the passage, taken alone, support every statement of the answer, and does the answer answer the question?

Passage: {{ %s }}

Question: {{ question }}

Answer: {{ answer }}"""
PAIR = Schema(
    {
        "type": "object",
        "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
        "required": ["question", "answer"],
        "additionalProperties": False,
    }
)


def attributed_texts(
    instruction: str,
    attributes: Mapping[str, Sequence[Any]],
    by: Model,
    *,
    each: int = 1,
    column: str = "text",
    threshold: float = 0.8,
) -> Step[Rows]:
    """Texts for each combination of attributes (`Write a {{ length }} review of a {{ product }}.`), duplicates out.

    The attributes stand beside each text as columns, as labels for a classifier.
    """
    values = {name: tuple(items) for name, items in attributes.items()}
    made = DataFromAttributedPrompt(by=_asked(by), instruction=instruction, attributes=values, each=each, column=column)
    return Dedup(rows=made, columns=(column,), threshold=threshold)


def augmented_rows(rows: Source, by: Model, *, column: str = "text", variants: int = 3) -> Step[Rows]:
    """The rows, and behind them `variants` paraphrases of each under the same labels, near-duplicates out."""
    source = _rows(rows, column)
    asked = Prompt(rows=source, by=_asked(by), template=VARIANT % column, column="variant", samples=variants)
    numbered = ("sample",) if variants > 1 else ()
    fresh = Rename(rows=Select(rows=asked, without=(column, *numbered)), names={"variant": column})
    return Dedup(rows=Concat(rows=(source, fresh)), columns=(column,))


def cleaned_rows(
    rows: Source,
    *,
    column: str = "text",
    rules: Sequence[Any] = ("gopher", "gopher_repetition"),
    languages: Sequence[str] = (),
    threshold: float = 0.8,
) -> Step[Rows]:
    """Personal data redacted, texts of poor quality or in another language dropped with the reason, duplicates out.

    `languages` needs `pip install 'stillhouse[curate]'`.
    """
    told = (Language(languages=tuple(languages)),) if languages else ()
    redacted = Pii(rows=_rows(rows, column), columns=(column,))
    good = Quality(rows=redacted, columns=(column,), rules=(*rules, *told))
    return Dedup(rows=good, columns=(column,), threshold=threshold)


def instruction_pairs(
    corpus: Source, by: Model, *, judge: Model | None = None, column: str = "text", least: int = 4
) -> Step[Rows]:
    """Instruction-tuning data from texts that people wrote: the instruction that each answers, found and then judged.

    Rows have `input` and `output`, the best first; those that `judge` (default: `by`) gives less than `least` of 5 are
    dropped (Li et al. 2023, "Self-Alignment with Instruction Backtranslation").
    """
    found = Backtranslate(rows=_rows(corpus, column), by=_asked(by), input=column)
    ranked = RankWithPrompt(rows=found, by=_asked(judge or by), template=WORTH % column, low=1, high=5, least=least)
    return Rename(
        rows=Select(rows=ranked, columns=("instruction", column, "score")),
        names={"instruction": "input", column: "output"},
    )


def self_rewarded_pairs(
    prompts: Source, by: Model, *, column: str = "instruction", samples: int = 4, margin: float = 0.0
) -> Step[Rows]:
    """Preference pairs of a model that judges its own answers (Yuan et al. 2024, "Self-Rewarding Language Models").

    Each two of `samples` answers are compared in both orders; rows have `chosen` and `rejected`. Train on them, and
    give the trained model as `by` for the next round.
    """
    asked = _asked(by)
    judge = PairJudge(by=(asked,), instruction=BETTER % column)
    template = f"{{{{ {column} }}}}"
    return PreferencePairs(
        rows=_rows(prompts, column), by=(asked,), template=template, judge=judge, samples=samples, margin=margin
    )


def translated_rows(
    rows: Source, by: Model, *, language: str, back: str = "English", column: str = "text", judge: Model | None = None
) -> Step[Rows]:
    """A parallel corpus: each text in `language`, kept where its translation back says the same as the text.

    Rows have `translation` and, as evidence, `back`.
    """
    there = Prompt(
        rows=_rows(rows, column), by=_asked(by), template=TRANSLATE % (language, column), column="translation"
    )
    returned = Prompt(rows=there, by=_asked(by), template=TRANSLATE % (back, "translation"), column="back")
    return FilterWithPrompt(rows=returned, by=_asked(judge or by), template=SAME % column)


def question_answers(
    corpus: Source,
    by: Model,
    *,
    column: str = "text",
    index: Embedder | Bm25 | None = None,
    k: int = 5,
    judge: Model | None = None,
    samples: int = 1,
) -> Step[Rows]:
    """Questions and answers about the passages of a corpus, for training or testing retrieval and RAG.

    Kept are those whose answer the passage supports, as `judge` (default: `by`) says, and whose passage is among the
    `k` that `index` finds for the question. Rows have `question`, `answer`, the passage, and what was `retrieved`.
    """
    source = _rows(corpus, column)
    asked = Prompt(rows=source, by=_asked(by), template=QUESTION % column, response=PAIR, unpack=True, samples=samples)
    grounded = FilterWithPrompt(rows=asked, by=_asked(judge or by), template=GROUNDED % column)
    passages = Rename(rows=Select(rows=source, columns=(column,)), names={column: "passage"})
    searched = Index(rows=passages, by=index or Bm25(), column="passage")
    found = Retrieve(rows=grounded, index=searched, column="question", k=k)
    kept = Filter(rows=Rename(rows=found, names={column: "passage"}), where=finds_its_passage)
    return Dedup(rows=kept, columns=("question",))


def finds_its_passage(row: dict[str, Any]) -> bool | str:
    """Whether the passage of a question is among what was found for it."""
    passages = [entry["row"]["passage"] for entry in row["retrieved"]]
    return row["passage"] in passages or f"its passage is not among the {len(passages)} that are found for it"


def _rows(source: Source, *columns: str) -> Step[Rows]:
    if isinstance(source, Step):
        return source
    if isinstance(source, str | os.PathLike):
        return Import(path=source, require=columns)
    return Import(data=tuple(source), require=columns)


def _asked(by: Model) -> Ask:
    return by if isinstance(by, Ask) else Ask(model=by)
