"""The words that carry an order, and the cutting of a guest's sentence into them."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, NamedTuple

from .menu import DRINKS, FOOD, MAX_COUNT

Kind = Literal[
    "item", "extra", "size", "number", "article", "container", "glue", "with", "and", "comma", "line", "times", "word"
]


class Lexeme(NamedTuple):
    """A word or phrase of the sentence; `value` is its meaning (a menu name, a number) or the text itself."""

    kind: Kind
    value: str | int


NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
        start=1,
    )
}

_ITEM_ALIASES = {
    "plain bagel": ["bagel"],
    "blueberry muffin": ["muffin"],
    "cheese sandwich": ["sandwich"],
    "cinnamon roll": ["cinnamon bun"],
    "flat white": ["flatwhite"],
    "chai": ["chai tea", "chai latte"],
    "cappuccino": ["capuccino", "cappucino"],
    "croissant": ["butter croissant"],
    "brownie": ["chocolate brownie"],
}
_EXTRA_PHRASES = {
    "iced": ["iced", "on ice", "over ice", "on the rocks"],
    "decaf": ["decaf", "decaffeinated", "without caffeine", "without the caffeine", "without any caffeine"],
    "oat milk": ["oat", "oat milk", "oatmilk"],
    "soy milk": ["soy", "soy milk", "soymilk", "soya", "soya milk"],
    "extra shot": [
        "shot",
        "extra shot",
        "extra shot of espresso",
        "extra espresso shot",
        "additional shot",
        "another shot",
        "shot of espresso",
        "espresso shot",
        "shot more",
    ],
    "vanilla": ["vanilla", "vanilla syrup"],
    "caramel": ["caramel", "caramel syrup", "caramel sauce"],
    "whipped cream": ["whipped cream", "whipped"],
}
_SIZE_WORDS = {
    "small": ["small", "little", "tiny"],
    "medium": ["medium", "regular"],
    "large": ["large", "big"],
}
_NUMBER_PHRASES = {
    2: ["a couple of", "a couple", "couple of", "a pair of", "pair of"],
    6: ["half a dozen", "half dozen", "a half dozen"],
    12: ["a dozen", "one dozen", "dozen"],
    1: ["a single", "another"],
}
_MEASURES = ["bit", "splash", "dash", "drop", "pump", "touch", "hint", "dollop", "drizzle", "squirt", "swirl", "shot"]
_CONTAINERS = [
    "cup",
    "cups",
    "mug",
    "mugs",
    "glass",
    "glasses",
    "slice",
    "slices",
    "piece",
    "pieces",
    "portion",
    "portions",
    "pot",
    "pots",
]
_GLUE = [
    "of",
    "the",
    "my",
    "your",
    "our",
    "some",
    "more",
    "extra",
    "x",
    "please",
    "it",
    "them",
    "each",
    "both",
    "all",
    "that",
    "this",
    "those",
    "these",
    "made",
    "in",
    "on",
    "top",
    "for",
    "me",
    "us",
    "size",
    "sized",
    "one",
    "ones",
    "nice",
    "hot",
    "fresh",
    "lovely",
    "good",
    "strong",
    "warm",
    "cold",
    "plain",
    "simple",
    "normal",
    "classic",
    "lots",
    "plenty",
    "added",
    "make",
    "add",
    "also",
    "milk",
    "syrup",
    "is",
    "are",
    "be",
    "to",
    "go",
    "takeaway",
    "here",
    "stay",
    "now",
    "just",
]


def lexemes(text: str) -> list[Lexeme]:
    """The sentence as lexemes, longest phrases first; words of no meaning for an order come as kind `word`."""
    words = _WORD.findall(plain(text))
    found: list[Lexeme] = []
    position = 0
    while position < len(words):
        for phrase, lexeme in _PHRASES.get(words[position], ()):
            if tuple(words[position : position + len(phrase)]) == phrase:
                found.append(lexeme)
                position += len(phrase)
                break
        else:
            found.append(_single(words[position]))
            position += 1
    return found


def plain(text: str) -> str:
    """Lower case without accents, hyphens or curly apostrophes."""
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    return re.sub(r"(?<=\w)-(?=\w)", " ", "".join(c for c in decomposed if not unicodedata.combining(c)))


def plural(name: str) -> str:
    """The plural of a menu name (its last word changes)."""
    return name + ("es" if name.endswith(("sh", "ch", "s")) else "s")


_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[^\sa-z\d]|\n")


def _single(word: str) -> Lexeme:
    if word.isdigit() and 1 <= int(word) <= MAX_COUNT and not word.startswith("0"):
        return Lexeme("number", int(word))
    if word in NUMBER_WORDS:
        return Lexeme("number", NUMBER_WORDS[word])
    if word in ("x", "×"):
        return Lexeme("times", word)
    if word in ("a", "an"):
        return Lexeme("article", 1)
    if word in ("with", "w"):
        return Lexeme("with", word)
    if word in ("and", "&", "+", "plus"):
        return Lexeme("and", word)
    if word == "\n":
        return Lexeme("line", word)
    if not word[0].isalnum():
        return Lexeme("comma", word)
    return Lexeme("glue" if word in _GLUE else "word", word)


def _phrases() -> dict[str, list[tuple[tuple[str, ...], Lexeme]]]:
    table: dict[tuple[str, ...], Lexeme] = {}
    for name in DRINKS + FOOD:
        for alias in [name, *_ITEM_ALIASES.get(name, [])]:
            for form in (alias, plural(alias)):
                table[tuple(form.split())] = Lexeme("item", name)
    for extra, phrases in _EXTRA_PHRASES.items():
        for phrase in phrases:
            table[tuple(phrase.split())] = Lexeme("extra", extra)
            if "shot" in phrase:  # its article is no count of what follows: "an extra shot latte"
                for article in ("a", "an", "one"):
                    table[(article, *phrase.split())] = Lexeme("extra", extra)
            for measure in _MEASURES:
                table[(measure, "of", *phrase.split())] = Lexeme("extra", extra)
                table[("a", measure, "of", *phrase.split())] = Lexeme("extra", extra)
    for size, words in _SIZE_WORDS.items():
        table.update({(word,): Lexeme("size", size) for word in words})
    table[("extra", "large")] = Lexeme("size", "large")
    for number, phrases in _NUMBER_PHRASES.items():
        table.update({tuple(phrase.split()): Lexeme("number", number) for phrase in phrases})
    table.update({(word, "of"): Lexeme("container", word) for word in _CONTAINERS})
    by_first: dict[str, list[tuple[tuple[str, ...], Lexeme]]] = {}
    for phrase_words in sorted(table, key=lambda words: (-len(words), words)):
        by_first.setdefault(phrase_words[0], []).append((phrase_words, table[phrase_words]))
    return by_first


_PHRASES = _phrases()
