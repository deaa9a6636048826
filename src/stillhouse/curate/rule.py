"""Rules about texts: something measured, and the band in which it must lie."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..core.errors import RecipeError
from ..core.part import Part
from ..measure.verdict import Verdict
from .finding import Finding

TextMeasure = Literal[
    "characters",
    "words",
    "lines",
    "sentences",
    "mean_word_length",
    "longest_word",
    "hashes_per_word",
    "ellipses_per_word",
    "line_ends_per_word",
    "alphabetic_words",
    "stop_words",
    "phrases",
    "bullet_lines",
    "ellipsis_lines",
    "terminal_lines",
    "short_lines",
    "repeated_lines",
    "repeated_line_characters",
    "repeated_paragraphs",
    "repeated_paragraph_characters",
    "top_ngram_characters",
    "repeated_ngram_characters",
    "compression_ratio",
]

RuleSet = Literal["gopher", "gopher_repetition", "c4", "fineweb"]
"""Names of sets of rules."""

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class Rule(Part, tag="curate.rule/1"):
    """`measure` of a text must lie between `at_least` and `at_most`, both included.

    Words are what stands between spaces. Shares go from 0 to 1, and of an empty text every measure is 0:

    - `characters`, `words`, `lines` (that hold anything), `sentences`: counts;
    - `mean_word_length`, `longest_word`: in characters, of words that are not punctuation alone;
    - `hashes_per_word`, `ellipses_per_word`, `line_ends_per_word`: how many `#`, `…` or `...`, line ends for a word;
    - `alphabetic_words`: the share of words with a letter;
    - `stop_words`: how many of the words `of` occur at all; `phrases`: how often the texts `of` occur (case aside);
    - `bullet_lines`, `ellipsis_lines`, `terminal_lines`: the share of lines that begin with a bullet, end with an
      ellipsis, end with a full stop or the like;
    - `short_lines`: the share of lines of at most `size` characters (30);
    - `repeated_lines`, `repeated_paragraphs`: the share that stood before in the text; `…_characters` counts their
      characters, as a share of the whole text's;
    - `top_ngram_characters`: characters of the commonest run of `size` words (2), all its occurrences, as a share of
      the text; `repeated_ngram_characters`: those of all runs of `size` words (5) that stood before;
    - `compression_ratio`: bytes of the text for one byte of it compressed (zlib); much repetition gives 5 and more.

    The names and bounds of the sets in `Quality` are those of Gopher (Rae et al. 2021, section A1), C4 (Raffel et al.
    2020) and FineWeb (Penedo et al. 2024).
    """

    measure: TextMeasure
    at_least: float | None = None
    at_most: float | None = None
    size: int | None = Field(None, ge=1)
    of: tuple[str, ...] | None = Field(None, min_length=1)

    @field_validator("of", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> "Rule":
        name = self.measure
        if self.at_least is None and self.at_most is None:
            raise RecipeError(f"Rule: `{name}` has no bound", "Give `at_least`, `at_most` or both.")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise RecipeError(
                f"Rule: `{name}` at least {self.at_least:g} and at most {self.at_most:g} lets nothing pass"
            )
        sized = name in ("short_lines", "top_ngram_characters", "repeated_ngram_characters")
        if self.size is not None and not sized:
            raise RecipeError(f"Rule: `{name}` takes no `size`", "Leave it out.")
        if self.of is not None and name not in ("stop_words", "phrases"):
            raise RecipeError(f"Rule: `{name}` takes no `of`", "Leave it out.")
        if self.of is None and name == "phrases":
            raise RecipeError("Rule: `phrases` are missing", "Give them in `of`.")
        return self

    @property
    def name(self) -> str:
        """What is measured, in words: `repeated 5-gram characters`."""
        words = self.measure.replace("_", " ")
        if self.measure == "phrases" and self.of is not None:
            return "occurrences of " + ", ".join(f"`{phrase}`" for phrase in self.of)
        return words.replace("ngram", f"{self.size or (2 if self.measure.startswith('top') else 5)}-gram")

    def value(self, text: str) -> float:
        """What is measured of a text."""
        from ._text_measures import TextFacts

        return TextFacts(text).measured(self)

    def finding(self, value: float) -> Finding | None:
        """What a measured value has against it."""
        if self.at_least is not None and value < self.at_least:
            return Finding(f"{self.name} below {self.at_least:g}", f"{value:.4g}")
        if self.at_most is not None and value > self.at_most:
            return Finding(f"{self.name} above {self.at_most:g}", f"{value:.4g}")
        return None

    def check(self, text: str) -> Finding | None:
        return self.finding(self.value(text))

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        """As a verifier in `Keep`."""
        del item
        found = self.check(reply)
        return Verdict(True) if found is None else Verdict(False, str(found))


def _rule(measure: TextMeasure, at_least: float | None = None, at_most: float | None = None, **more: Any) -> Rule:
    return Rule(measure=measure, at_least=at_least, at_most=at_most, **more)


def named_rules(name: str) -> tuple[Rule, ...]:
    """The rules of a set; raises ValueError for an unknown name."""
    if name == "gopher":
        return (
            _rule("words", 50, 100_000),
            _rule("mean_word_length", 3, 10),
            _rule("hashes_per_word", at_most=0.1),
            _rule("ellipses_per_word", at_most=0.1),
            _rule("bullet_lines", at_most=0.9),
            _rule("ellipsis_lines", at_most=0.3),
            _rule("alphabetic_words", 0.8),
            _rule("stop_words", 2),
        )
    if name == "gopher_repetition":
        top = zip((2, 3, 4), (0.20, 0.18, 0.16), strict=True)
        repeated = zip((5, 6, 7, 8, 9, 10), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
        return (
            _rule("repeated_lines", at_most=0.3),
            _rule("repeated_paragraphs", at_most=0.3),
            _rule("repeated_line_characters", at_most=0.2),
            _rule("repeated_paragraph_characters", at_most=0.2),
            *(_rule("top_ngram_characters", at_most=most, size=size) for size, most in top),
            *(_rule("repeated_ngram_characters", at_most=most, size=size) for size, most in repeated),
        )
    if name == "c4":
        return (
            _rule("sentences", 3),
            _rule("longest_word", at_most=1000),
            _rule("phrases", at_most=0, of=("lorem ipsum",)),
            _rule("phrases", at_most=0, of=("{",)),
        )
    if name == "fineweb":
        return (
            _rule("terminal_lines", 0.12),
            _rule("short_lines", at_most=0.67, size=30),
            _rule("repeated_line_characters", at_most=0.1),
            _rule("line_ends_per_word", at_most=0.3),
        )
    raise ValueError(f"`{name}` is no set of rules; there are gopher, gopher_repetition, c4 and fineweb")
