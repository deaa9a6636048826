"""What stands between the values of JSON replies: keys, braces and quotes that never vary."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

_SCALAR = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null')

SHORTEST = 3  # characters; shorter pieces are what merges find anyway
RAREST = 5  # uses
SHARE = 1 / 500  # of the replies


def pieces(text: str) -> tuple[list[str], list[str]] | None:
    """The syntax between scalar values, and the values, of a text that is a JSON object or list; None for others."""
    try:
        if not isinstance(json.loads(text), dict | list):
            return None
    except ValueError:
        return None
    syntax, values, last = [], [], 0
    for match in _SCALAR.finditer(text):
        if match[2] is not None:  # a key
            continue
        group = 1 if match[1] is not None else 0  # of a text the quotes belong to the syntax
        syntax.append(text[last : match.start(group)])
        values.append(match[group])
        last = match.end(group)
    syntax.append(text[last:])
    return syntax, values


def common(replies: Iterable[str]) -> list[str]:
    """Syntax that many of the replies share, the most frequent first."""
    counts: Counter[str] = Counter()
    num_replies = 0
    for reply in replies:
        found = pieces(reply)
        if found is not None:
            num_replies += 1
            counts.update(found[0])
    least = max(RAREST, num_replies * SHARE)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [piece for piece, count in ranked if len(piece) >= SHORTEST and count >= least]


def without_syntax(text: str) -> Iterator[str]:
    """What is left for merges to learn from: the values of a JSON reply, any other text as it is."""
    found = pieces(text)
    if found is None:
        yield text
    else:
        yield from found[1]
