"""Measures of a text that tell prose from the rest."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rule import Rule

BULLETS = ("•", "-", "*", "‣", "◦", "–", "·")
ELLIPSES = ("…", "...")
TERMINAL = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？", "؟", "।", "｡", "»", "」", "』")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)»\]]*(?=\s|$)|[。！？｡।؟]")
_PARAGRAPHS = re.compile(r"\n{2,}")
_HOLDS_LETTER = re.compile(r"[^\W\d_]")


class TextFacts:
    """A text with what several measures need of it, each worked out once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def word_lengths(self) -> list[int]:
        """Of words that are not punctuation alone."""
        return [len(word) for word in self.words if _is_word(word)]

    @cached_property
    def lines(self) -> list[str]:
        return [line for line in (line.strip() for line in self.text.split("\n")) if line]

    @cached_property
    def paragraphs(self) -> list[str]:
        return [part for part in _PARAGRAPHS.split(self.text.strip()) if part]

    @cached_property
    def ends(self) -> list[int]:
        """Characters up to the end of each word, without what stands between them."""
        total, found = 0, [0]
        for word in self.words:
            total += len(word)
            found.append(total)
        return found

    def measured(self, rule: Rule) -> float:
        """The value of a rule's measure."""
        return float(MEASURES[rule.measure](self, rule))

    def share_of_lines(self, wanted: Callable[[str], bool]) -> float:
        return sum(map(wanted, self.lines)) / len(self.lines) if self.lines else 0.0

    def per_word(self, count: int) -> float:
        return count / len(self.words) if self.words else 0.0


@lru_cache(maxsize=65_536)
def _is_word(word: str) -> bool:
    return any(unicodedata.category(character)[0] != "P" for character in word)


def _sentences(facts: TextFacts) -> int:
    """Ends of sentences, and one for a last that has no end."""
    text = facts.text.rstrip()
    if not text:
        return 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return len(ends) + (not ends or ends[-1] < len(text))


def _repeats(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts stood before, and their characters."""
    known: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in known:
            number += 1
            characters += len(part)
        known.add(part)
    return number, characters


def _share(parts: Sequence[str]) -> float:
    return _repeats(parts)[0] / len(parts) if parts else 0.0


def _character_share(facts: TextFacts, parts: Sequence[str]) -> float:
    return _repeats(parts)[1] / len(facts.text) if facts.text else 0.0


def _top_ngram(facts: TextFacts, size: int) -> float:
    words = facts.words
    if len(words) < size:
        return 0.0
    counts = Counter(" ".join(words[start : start + size]) for start in range(len(words) - size + 1))
    # Of runs that are equally common the longest: the value must not depend on which came first.
    most = max(counts.values())
    longest = max(len(run) for run, count in counts.items() if count == most)
    return longest * most / len(facts.text) if most > 1 else 0.0


def _repeated_ngrams(facts: TextFacts, size: int) -> float:
    """Characters (spaces aside) of runs that stood before, none counted twice: after one it goes on behind it."""
    words, ends = facts.words, facts.ends
    known: set[tuple[str, ...]] = set()
    characters = place = 0
    while place <= len(words) - size:
        run = tuple(words[place : place + size])
        if run in known:
            characters += ends[place + size] - ends[place]
            place += size
        else:
            known.add(run)
            place += 1
    return characters / len(facts.text) if facts.text else 0.0


def _stop_words(facts: TextFacts, words: Sequence[str]) -> int:
    present = {word.strip(".,;:!?\"'()").casefold() for word in facts.words}
    return sum(word.casefold() in present for word in words)


def _phrases(facts: TextFacts, phrases: Sequence[str]) -> int:
    text = facts.text.casefold()
    return sum(text.count(phrase.casefold()) for phrase in phrases)


def compression_ratio(text: str) -> float:
    """Bytes of the text for one byte of it compressed; 0 for an empty one."""
    data = text.encode(errors="surrogatepass")
    return len(data) / len(zlib.compress(data, 6)) if data else 0.0


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _stop(rule: Rule) -> Sequence[str]:
    from .rule import STOP_WORDS

    return rule.of or STOP_WORDS


MEASURES: dict[str, Callable[[TextFacts, Rule], float]] = {
    "characters": lambda facts, _: len(facts.text),
    "words": lambda facts, _: len(facts.words),
    "lines": lambda facts, _: len(facts.lines),
    "sentences": lambda facts, _: _sentences(facts),
    "mean_word_length": lambda facts, _: _mean(facts.word_lengths),
    "longest_word": lambda facts, _: max(facts.word_lengths, default=0),
    "hashes_per_word": lambda facts, _: facts.per_word(facts.text.count("#")),
    "ellipses_per_word": lambda facts, _: facts.per_word(facts.text.count("…") + facts.text.count("...")),
    "line_ends_per_word": lambda facts, _: facts.per_word(facts.text.count("\n")),
    "alphabetic_words": lambda facts, _: facts.per_word(
        sum(_HOLDS_LETTER.search(word) is not None for word in facts.words)
    ),
    "stop_words": lambda facts, rule: _stop_words(facts, _stop(rule)),
    "phrases": lambda facts, rule: _phrases(facts, rule.of or ()),
    "bullet_lines": lambda facts, _: facts.share_of_lines(lambda line: line.startswith(BULLETS)),
    "ellipsis_lines": lambda facts, _: facts.share_of_lines(lambda line: line.endswith(ELLIPSES)),
    "terminal_lines": lambda facts, _: facts.share_of_lines(lambda line: line.endswith(TERMINAL)),
    "short_lines": lambda facts, rule: facts.share_of_lines(lambda line: len(line) <= (rule.size or 30)),
    "repeated_lines": lambda facts, _: _share(facts.lines),
    "repeated_line_characters": lambda facts, _: _character_share(facts, facts.lines),
    "repeated_paragraphs": lambda facts, _: _share(facts.paragraphs),
    "repeated_paragraph_characters": lambda facts, _: _character_share(facts, facts.paragraphs),
    "top_ngram_characters": lambda facts, rule: _top_ngram(facts, rule.size or 2),
    "repeated_ngram_characters": lambda facts, rule: _repeated_ngrams(facts, rule.size or 5),
    "compression_ratio": lambda facts, _: compression_ratio(facts.text),
}
