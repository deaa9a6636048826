"""Whether a text has fallen into a loop, as models do that lost the thread: the same again and again to the end."""

from __future__ import annotations

_PROBE = 24  # characters at the end, looked for before
_LONGEST_UNIT = 600  # characters of what is said again
_LEAST = 240  # characters that the loop must fill
_TIMES = 6  # repetitions that no writer means


def loops(text: str) -> bool:
    """True where the text's end is one unit of at most 600 characters, six times or more and over 240 characters.

    A unit without a letter is no loop: rules and borders are drawn so, and so is what stands between numbers. A text
    that ends otherwise than it repeats has come out of the loop. Costs microseconds for a text that does not loop.
    """
    end = text.rstrip()
    if len(end) < _LEAST:
        return False
    probe = end[-_PROBE:]
    before = end.rfind(probe, max(0, len(end) - _PROBE - _LONGEST_UNIT), len(end) - 1)
    if before < 0:
        return False
    unit = len(end) - _PROBE - before
    filled = max(_LEAST, _TIMES * unit)
    if len(end) < filled:
        return False
    tail = end[-filled:]
    return tail[unit:] == tail[:-unit] and any(letter.isalpha() for letter in tail[-unit:])
