"""A teacher without weights: it answers the requests that a hosted model would get, faults included.

Requests are told apart by the `title` of their JSON Schema: `TaskPolicy` (what is the task like), `NewInputs` (invent
more guests), `ReasonedAnswer` (answer one guest, with a line of reasoning). Any other request, or one without a schema,
gets the order as JSON. It reads the guest's words with `reading.read_order`; it never looks an answer up.

A set share of its answers is wrong and a set share of its replies is malformed. Both are drawn from a hash of the
messages, the title and the sample, so that a run repeats exactly and several samples of one request err independently.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from .guests import invent
from .lexicon import plain
from .menu import DRINKS, EXTRAS, FOOD, MAX_COUNT, SIZES
from .policy import policy_for
from .reading import Order, read_order

WRONG_SHARE = 0.04  # of answers: well-formed, but not what the guest said
MALFORMED_SHARE = 0.03  # of structured replies: cut off, wrapped in prose, under other keys, or empty
REPEATED_SHARE = 0.02  # of new inputs: one that the request shows already, or nearly so


def reply(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """The text of the reply; the same arguments get the same text (of a schema only its title counts)."""
    title = str((schema or {}).get("title", ""))
    rng = _generator(messages, title, sample)
    faulty = rng.random() < MALFORMED_SHARE
    if schema is None:
        return _json(_answer(_task_input(messages), rng))
    if title == "TaskPolicy":
        value: Any = policy_for(schema)
    elif title == "NewInputs":
        value = {"inputs": _new_inputs(messages, rng)}
    elif title == "ReasonedAnswer":
        order = _answer(_task_input(messages), rng)
        wants_text = _property_type(schema, "output") == "string"
        value = {"thinking": _thinking(order), "output": _json(order) if wants_text else order}
    else:
        value = _answer(_task_input(messages), rng)
    return _malformed(value, rng) if faulty else _json(value)


def _generator(messages: list[dict[str, str]], title: str, sample: int) -> random.Random:
    said = [[message["role"], message["content"]] for message in messages]
    request = json.dumps([said, title, sample], ensure_ascii=False).encode()
    return random.Random(int.from_bytes(hashlib.blake2b(request, digest_size=8).digest(), "big"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _user_texts(messages: Sequence[dict[str, str]]) -> list[str]:
    """What the user said, the latest first: a request to mend a reply comes after the one that it is about."""
    return [message["content"] for message in reversed(messages) if message["role"] == "user"]


def _task_input(messages: Sequence[dict[str, str]]) -> str:
    texts = _user_texts(messages)
    for text in texts:
        marked = re.findall(r"<input>\s*(.*?)\s*</input>", text, re.DOTALL)
        if marked:
            return str(marked[-1])
    return texts[-1] if texts else ""


def _property_type(schema: dict[str, Any], name: str) -> str | None:
    declared = schema.get("properties", {}).get(name, {}).get("type")
    return declared if isinstance(declared, str) else None


def _thinking(order: Order) -> str:
    """One short clause for each thing ordered, in the words of the reply."""
    clauses = [
        " ".join([str(item["count"]), item["size"] or "", item["item"], *(f"+ {extra}" for extra in item["extras"])])
        for item in order["items"]
    ]
    return "; ".join([*(re.sub(r" +", " ", clause) for clause in clauses), "to go" if order["to_go"] else "here"])


# --- new inputs


def _new_inputs(messages: Sequence[dict[str, str]], rng: random.Random) -> list[str]:
    asked = next(
        (found for text in _user_texts(messages) if (found := re.search(r"[Ww]rite (\d+) new inputs?", text))), None
    )
    shown = "\n".join(message["content"] for message in messages)
    known = plain(shown)
    written: list[str] = []
    while len(written) < (int(asked[1]) if asked else 10):
        if written and rng.random() < REPEATED_SHARE:
            written.append(rng.choice(written).rstrip(".!?").lower())
            continue
        text = invent(rng).text
        if plain(text) not in known and text not in written:
            written.append(text)
    return written


# --- answers, and what can be wrong with them


def _answer(text: str, rng: random.Random) -> Order:
    order = read_order(text)
    if rng.random() < WRONG_SHARE:
        rng.choice(_SLIPS)(order, rng)
    return order


def _miscount(order: Order, rng: random.Random) -> None:
    if not order["items"]:
        return
    item = rng.choice(order["items"])
    item["count"] = rng.choice([n for n in range(1, MAX_COUNT + 1) if n != item["count"]])


def _lose_item(order: Order, rng: random.Random) -> None:
    if len(order["items"]) > 1:
        order["items"].pop(rng.randrange(len(order["items"])))
    else:
        _miscount(order, rng)


def _swap_item(order: Order, rng: random.Random) -> None:
    if not order["items"]:
        return
    item = rng.choice(order["items"])
    item["item"] = rng.choice([name for name in (DRINKS if item["item"] in DRINKS else FOOD) if name != item["item"]])


def _misread_size(order: Order, rng: random.Random) -> None:
    drinks = [item for item in order["items"] if item["item"] in DRINKS]
    if not drinks:
        _miscount(order, rng)
        return
    drink = rng.choice(drinks)
    drink["size"] = rng.choice([size for size in (None, *SIZES) if size != drink["size"]])


def _misread_extras(order: Order, rng: random.Random) -> None:
    drinks = [item for item in order["items"] if item["item"] in DRINKS]
    if not drinks:
        _miscount(order, rng)
        return
    drink = rng.choice(drinks)
    toggled = rng.choice(drink["extras"] or EXTRAS)
    drink["extras"] = [extra for extra in EXTRAS if (extra in drink["extras"]) != (extra == toggled)]


def _mistake_service(order: Order, rng: random.Random) -> None:
    order["to_go"] = not order["to_go"]


_SLIPS: list[Callable[[Order, random.Random], None]] = [
    _miscount,
    _lose_item,
    _swap_item,
    _misread_size,
    _misread_extras,
    _mistake_service,
]


def _malformed(value: Any, rng: random.Random) -> str:
    whole = _json(value)
    kind = rng.choice(["cut", "prose", "keys", "empty"])
    if kind == "cut":
        return whole[: rng.randint(1, max(1, len(whole) * 2 // 3))]
    if kind == "prose":
        return f"Certainly! Here is what you asked for:\n\n{whole}\n\nLet me know if I can help with anything else."
    if kind == "keys":
        return _json({f"the_{key}": part for key, part in value.items()})
    return ""
