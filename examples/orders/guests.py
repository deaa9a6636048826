"""Inventing guests: an order drawn at random, and one of the many ways of saying it."""

from __future__ import annotations

import random
import re
from typing import Any, NamedTuple

from .menu import DRINKS, EXTRAS, FOOD, SIZES
from .naming import item_phrase
from .phrases import expand, fill
from .reading import Order


class Guest(NamedTuple):
    """What a guest says, and the order that was meant by it."""

    text: str
    order: Order


class _Manner(NamedTuple):
    terse: bool
    digits: bool
    articles: bool
    joiners: tuple[str, str]  # between items, and before the last one
    hesitant: bool
    for_people: bool


def invent(rng: random.Random) -> Guest:
    """A guest with one to six items, talkative or terse, neat or careless."""
    order = _order(rng)
    terse = rng.random() < 0.2
    manner = _Manner(
        terse=terse,
        digits=rng.random() < (0.6 if terse else 0.25),
        articles=rng.random() < (0.25 if terse else 0.87),
        joiners=rng.choice(_TERSE_JOINERS if terse else _PLAIN_JOINERS if rng.random() < 0.55 else _JOINERS),
        hesitant=not terse and rng.random() < 0.12,
        for_people=not terse and rng.random() < 0.15,
    )
    before, after = rng.choice(_TERSE_SURROUNDINGS if terse else _SURROUNDINGS)
    spoken = [*_opening(before, rng), *_sentences(order, manner, rng), *_closing(after, rng)]
    return Guest(_careless(_join(spoken, rng), rng), order)


_SURROUNDINGS = [(0, 0), (0, 0), (1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (1, 1), (2, 0), (2, 1), (0, 2)]  # sentences
_TERSE_SURROUNDINGS = [(0, 0), (0, 0), (0, 0), (1, 0), (0, 1)]
_PLAIN_JOINERS = [
    (", ", " and "),
    (", ", " and "),
    (", ", ", and "),
    (" and ", " and "),
    (", ", ", "),
]
_JOINERS = [
    (", ", " plus "),
    (", ", " as well as "),
    (", then ", " and then "),
    (", also ", " and also "),
    (" and ", ", and "),
    (", plus ", ", plus "),
    (", ", ", along with "),
    (", ", " together with "),
    ("; ", "; and "),
    (", and ", ", and "),
    (", ", ", oh and "),
    (", ", ", and finally "),
    (" & ", " & "),
    (", ", " and, {um}, "),
    (", ", " and maybe "),
    (", ", ", and for {person} "),
    (", {um}, ", ", {um}, "),
    (", ", ", please, and "),
    (", ", ". And "),
    (". Also ", ". Also "),
    (". Then ", ". And finally "),
    (", ", ". Oh, and "),
    (", ", ". {reason}. Also "),
    (", ", ", because {reason}, and "),
    (", for {person} ", " and for {person} "),
    (", {who} wants ", " and {who} wants "),
    (". {who} would like ", ". {who} would like "),
    (", ", " and {who} will have "),
    (" - ", " - "),
    (", ", " and on top of that "),
]
_TERSE_JOINERS = [
    (", ", ", "),
    (", ", ", "),
    ("; ", "; "),
    (" + ", " + "),
    (" & ", " & "),
    ("\n", "\n"),
    ("\n- ", "\n- "),
    (" / ", " / "),
    (", ", " and "),
    (". ", ". "),
]


_SHARES = [30, 33, 22, 10, 4, 1]  # of guests with one, two ... six items


def _order(rng: random.Random) -> Order:
    items: list[dict[str, Any]] = []
    for _ in range(rng.choices(range(1, 7), weights=_SHARES)[0]):
        drink = rng.random() < 0.64
        last = items[-1]["item"] if items else None  # the same thing twice in a row would sound like a correction
        name = rng.choice([name for name in (DRINKS if drink else FOOD) if name != last])
        items.append(
            {
                "count": rng.choices([1, 2, 3, rng.randint(4, 12)], weights=[50, 17, 10, 23])[0],
                "item": name,
                "size": rng.choice([None, *SIZES]) if drink and rng.random() < 0.7 else None,
                "extras": _extras(rng) if drink else [],
            }
        )
    return {"items": items, "to_go": rng.random() < 0.42}


def _extras(rng: random.Random) -> list[str]:
    chosen = set(rng.sample(EXTRAS, rng.choices([0, 1, 2, 3, 4], weights=[48, 30, 15, 6, 1])[0]))
    if {"oat milk", "soy milk"} <= chosen:
        chosen.remove(rng.choice(["oat milk", "soy milk"]))
    return [extra for extra in EXTRAS if extra in chosen]


def _sentences(order: Order, manner: _Manner, rng: random.Random) -> list[str]:
    """The sentences that carry the order, whether it is taken away included."""
    said = _items(order, manner, rng)
    in_lines = "\n" in said
    service = "go" if order["to_go"] else ("here" if rng.random() < 0.35 else "")
    place = rng.choices(["tail", "sentence", "head", "front"], weights=[60, 26, 8, 6])[0] if service else ""
    if place == "tail":
        said += rng.choice([" ", " ", " ", ", ", ", ", ". " if manner.terse else ", "]) + expand(service, rng)
    asks = False
    if place == "head" and service == "go":
        said = f"{expand('go_head', rng)}: {said}"
    elif place in ("head", "front"):
        introduced = rng.choice([":", ",", ",", " -", " please:", ", {ask_q}", ", {ask_q}", ", {ask_s}"])
        said = f"{expand(service, rng)}{fill(introduced, rng)} {said}"
    elif not (manner.terse and rng.random() < 0.6):
        form = rng.choices(["ask", "state", "bare", "head", "behind"], weights=[30, 34, 16, 12, 8])[0]
        asks = form == "ask"
        said = _framed(said, form, rng)
    if rng.random() < (0.2 if manner.terse or in_lines else 0.45):
        said += rng.choice([" ", ", ", ", "]) + expand("please", rng)
    sentences = [said + ("?" if asks and rng.random() < 0.85 else rng.choice([".", ".", ".", "!"]))]
    if place == "sentence":
        sentences.insert(rng.random() < 0.8, expand(f"{service}_full", rng) + rng.choice([".", ".", "!"]))
    return sentences


def _framed(said: str, form: str, rng: random.Random) -> str:
    if form == "ask":
        return f"{expand('ask_q', rng)} {said}"
    if form == "state":
        return f"{expand('ask_s', rng)} {said}"
    if form == "head":
        return f"{expand('head', rng)}{rng.choice([': ', ': ', ' - ', ', ', chr(10)])}{said}"
    if form == "behind":
        return re.sub(r" (?=,)", "", f"{said} {expand('behind', rng)}")
    return said


def _items(order: Order, manner: _Manner, rng: random.Random) -> str:
    said = ""
    last = len(order["items"]) - 1
    for position, item in enumerate(order["items"]):
        if position:
            joiner = manner.joiners[position == last]
            if not manner.articles and not manner.digits and not re.search(r"[,;.+/\n&]", joiner):
                joiner = ", "  # with neither number nor article the next thing must not run into the last one's extras
            said += fill(joiner, rng)
        if manner.hesitant and rng.random() < 0.4:
            said += expand("um", rng) + rng.choice([", ", " ... ", " "])
        said += item_phrase(item, manner.digits, manner.articles, rng)
        if manner.for_people and rng.random() < 0.6:
            said += " for " + rng.choice(["me", *(expand("person", rng) for _ in range(3))])
    return said


def _opening(number: int, rng: random.Random) -> list[str]:
    said = []
    for position in range(number):
        if position == 0 and rng.random() < 0.7:
            said.append(expand("greet", rng) + rng.choice([",", ",", "!", ".", "!", " -", "..."]))
        elif rng.random() < 0.15:
            said.append(expand("um", rng) + rng.choice([",", ",", "...", ""]))
        else:
            said.append(_reasons(rng) + rng.choice([".", ".", ".", "!", ", so", ",", "...", " -"]))
    return said


def _closing(number: int, rng: random.Random) -> list[str]:
    return [
        (expand("bye", rng) if rng.random() < 0.55 else _reasons(rng)) + rng.choice([".", ".", "!"])
        for _ in range(number)
    ]


def _reasons(rng: random.Random) -> str:
    said = expand("reason", rng)
    while rng.random() < 0.15:
        said += rng.choice([", ", " and ", " because ", ", so ", " but ", ", and ", " since ", ". "]) + expand(
            "reason", rng
        )
    return said


def _join(sentences: list[str], rng: random.Random) -> str:
    text = ""
    for sentence in sentences:
        starts = not text or text[-1] in ".!?"
        capital = starts and rng.random() < 0.95
        text += (" " if text else "") + (sentence[:1].upper() + sentence[1:] if capital else sentence)
    text = re.sub(r",\s*(?=[,.;:!?)\n])", "", text)
    text = re.sub(r"([.!?] )([a-z])", lambda found: found[1] + found[2].upper(), text)
    return re.sub(r"\b([Aa]) (?=[aeiou](?!ne\b))", r"\1n ", text)


def _careless(text: str, rng: random.Random) -> str:
    """Sometimes lower case, without the last full stop or apostrophes, now and then shouted."""
    kind = rng.random()
    if kind < 0.16:
        text = text.lower()
    elif kind < 0.18:
        text = text.upper()
    if rng.random() < 0.2:
        text = text.rstrip(".!?")
    if rng.random() < 0.06:
        text = text.replace("'", "")
    if rng.random() < 0.04:
        text += rng.choice(["!!", " :)", " ☕", " 🙂", "...", " xx", "?"])
    return text.strip()
