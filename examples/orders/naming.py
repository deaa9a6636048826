"""The ways of naming one thing on the menu with its count, size and extras."""

from __future__ import annotations

import random
from typing import Any

from .lexicon import NUMBER_WORDS, plural
from .phrases import expand

Item = dict[str, Any]  # one of the reply's `items`

_WORD_OF = {number: word for word, number in NUMBER_WORDS.items()}
_NOUNS = {
    "plain bagel": ["plain bagel", "bagel"],
    "blueberry muffin": ["blueberry muffin", "muffin"],
    "cheese sandwich": ["cheese sandwich", "sandwich"],
    "cinnamon roll": ["cinnamon roll", "cinnamon roll", "cinnamon bun"],
}
_SIZE_WORDS = {
    "small": ["small", "small", "little", "tiny"],
    "medium": ["medium", "medium", "regular"],
    "large": ["large", "large", "big"],
}
_BEFORE = {
    "iced": ["iced"],
    "decaf": ["decaf"],
    "oat milk": ["oat", "oat", "oat milk", "oatmilk", "oat-milk"],
    "soy milk": ["soy", "soy", "soy milk", "soymilk", "soy-milk"],
    "extra shot": ["extra shot", "extra-shot"],
    "vanilla": ["vanilla"],
    "caramel": ["caramel"],
    "whipped cream": ["whipped cream", "whipped"],
}
_AFTER = {
    "iced": ["on ice", "on ice", "over ice"],
    "decaf": ["without caffeine"],
    "oat milk": ["oat milk", "oat milk", "oat", "oatmilk"],
    "soy milk": ["soy milk", "soy milk", "soy", "soymilk"],
    "extra shot": ["an extra shot", "an extra shot", "a shot", "extra shot"],
    "vanilla": ["vanilla", "vanilla", "vanilla syrup", "a bit of vanilla", "some vanilla"],
    "caramel": ["caramel", "caramel", "caramel syrup", "a touch of caramel", "some caramel"],
    "whipped cream": ["whipped cream", "whipped cream", "whipped", "whipped cream on top", "lots of whipped cream"],
}
_OF_THE_DRINK = (
    "iced",
    "decaf",
)  # said of the drink itself: "a latte on ice", "a latte, decaf"; the others are added to it


def item_phrase(item: Item, digits: bool, articles: bool, rng: random.Random) -> str:
    """One way of saying `item`; without `articles` a single thing may come as its bare name."""
    before = [extra for extra in item["extras"] if rng.random() < 0.55]
    after = [extra for extra in item["extras"] if extra not in before]
    adjectives = [rng.choice(_BEFORE[extra]) for extra in before]
    rng.shuffle(adjectives)
    if rng.random() < 0.8:  # "iced oat latte" comes easier than "oat iced latte"
        adjectives.sort(key=lambda word: word not in _OF_THE_DRINK)
    late_size = ""
    if item["size"] and rng.random() < 0.13:
        late_size = rng.choice([", {},", " in {}", " ({})"]).format(item["size"])
    elif item["size"]:
        place = 0 if rng.random() < 0.85 else rng.randint(0, len(adjectives))
        adjectives.insert(place, rng.choice(_SIZE_WORDS[item["size"]]))
    if rng.random() < 0.05:
        adjectives.insert(0, expand("sweetly", rng))
    words = _with_noun(item["item"], item["count"], adjectives, rng)
    return _counted(item["count"], words, digits, articles, rng) + late_size + _added(after, rng)


def _with_noun(name: str, count: int, adjectives: list[str], rng: random.Random) -> str:
    many = count > 1
    if name == "banana bread" and rng.random() < 0.6:
        unit = rng.choice(["slice", "slice", "slice", "piece"])
        return " ".join([*adjectives, plural(unit) if many else unit, "of banana bread"])
    if name in ("black tea", "green tea") and rng.random() < 0.12:
        cup = "cups of" if many else "cup of"
        return " ".join([*adjectives[:1], cup, *adjectives[1:], name])
    noun = rng.choice(_NOUNS.get(name, [name]))
    if many and not (name == "banana bread" and rng.random() < 0.5):
        noun = plural(noun)
    return " ".join([*adjectives, noun])


def _counted(count: int, words: str, digits: bool, articles: bool, rng: random.Random) -> str:
    if count == 1:
        return f"{_one(words, digits, articles, rng)} {words}".strip()
    if digits and rng.random() < 0.9:
        form = rng.choice(["{} {}"] * 15 + ["{}x {}", "{} x {}", "{1} x{0}"])
        return form.format(count, words)
    many = _WORD_OF[count]
    forms = [many] * 8 + [f"{many} more"]
    forms += {
        2: ["a couple of", "a couple of", "a pair of", "a couple"],
        6: ["half a dozen"] * 5,
        12: ["a dozen"] * 8,
    }.get(count, [])
    return f"{rng.choice(forms)} {words}"


def _one(words: str, digits: bool, articles: bool, rng: random.Random) -> str:
    if not articles:
        return "1" if digits and rng.random() < 0.6 else ""
    if digits:
        return "1"
    article = "an" if words[0] in "aeiou" else "a"
    others = ["one", "one", "one", "another", "just one", "a single", "one more", "my", "the", ""]
    return rng.choice([article] * 12 + others)


def _added(extras: list[str], rng: random.Random) -> str:
    rng.shuffle(extras)
    said = ""
    for extra in extras:
        if extra in _OF_THE_DRINK:
            said += rng.choice([" ", " ", " ", ", "]) + rng.choice([*_AFTER[extra], *_AFTER[extra], _BEFORE[extra][0]])
    added = [rng.choice(_AFTER[extra]) for extra in extras if extra not in _OF_THE_DRINK]
    if not added:
        return said
    listed = added[-1]
    if len(added) > 1:
        listed = ", ".join(added[:-1]) + rng.choice([" and ", " and ", " plus ", " & "]) + listed
    how = rng.choice([" with {}"] * 9 + [", with {}", ", {}", " ({})", " w/ {}", " made with {}", " plus {}"])
    return said + how.format(listed)
