"""Keeping requests and replies small: zlib with a dictionary that the calls of one template share.

Requests of one step differ in a few words, and so do the wrappings of one provider's replies. The dictionary of a group
is one of its members as it came; with it the others take a quarter of what zlib alone makes of them, in less time
(`bench/call_cache.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

RAW, ZLIB = 0, 1
FIRST_DICTIONARY = 16
"""Packings from here on are numbers of dictionaries."""

_WINDOW = -13  # bits, without zlib's own header: 8 kB of dictionary and text, and little memory to set up
_MEMORY = 6
_SMALL_REQUEST, _SMALL_REPLY = 320, 160  # bytes; below, the time is dearer than the room
_LONG = 1024  # bytes; above, zlib saves something without a dictionary too
_MOST_GROUPS = 1000
_OPENING = 40  # characters of the first message that tell one template from another
_START_OF_MESSAGES = b'"messages":[{"content":'


class Packed(NamedTuple):
    """Bytes as they are kept, and how they were packed."""

    packing: int
    body: bytes


class Packer:
    """Packs with dictionaries that it finds by group, or has made by `add(group, dictionary) -> number`.

    A group gets a dictionary when it is met for the second time: prompts that share nothing make none.
    """

    def __init__(self, known: dict[bytes, tuple[int, bytes]], add: Callable[[bytes, bytes], int]) -> None:
        self._known = known
        self._add = add
        self._seen: set[bytes] = set()

    def request(self, canonical: bytes) -> Packed:
        if len(canonical) < _SMALL_REQUEST:
            return Packed(RAW, canonical)
        place = canonical.find(_START_OF_MESSAGES)
        end = 64 if place < 0 else place + len(_START_OF_MESSAGES)
        found = self._of(b"q" + canonical[: end + _OPENING], canonical) or self._of(b"q" + canonical[:end], canonical)
        return _packed(canonical, found)

    def reply(self, form: str, model: str, wire: bytes) -> Packed:
        if len(wire) < _SMALL_REPLY or form.startswith("vector."):  # numbers of a vector hardly repeat
            return Packed(RAW, wire)
        if form == "text":  # nothing but the model's own words
            return _packed(wire, None)
        return _packed(wire, self._of(f"r{form} {model}".encode(), wire))

    def _of(self, group: bytes, member: bytes) -> tuple[int, bytes] | None:
        found = self._known.get(group)
        if found is not None:
            return found
        if group not in self._seen:
            if len(self._seen) < 16 * _MOST_GROUPS:
                self._seen.add(group)
            return None
        if len(self._known) >= _MOST_GROUPS:
            return None
        dictionary = member if len(member) <= 8000 else member[:6000] + member[-2000:]
        found = self._known[group] = (self._add(group, dictionary), dictionary)
        return found


def _packed(data: bytes, dictionary: tuple[int, bytes] | None) -> Packed:
    if dictionary is not None:
        packing, content = dictionary
        work = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, content)
        body = work.compress(data) + work.flush()
    elif len(data) >= _LONG:
        packing, body = ZLIB, zlib.compress(data, 1)
    else:
        return Packed(RAW, data)
    return Packed(packing, body) if len(body) < 0.9 * len(data) else Packed(RAW, data)


def unpacked(packing: int, body: bytes, dictionary_of: Callable[[int], bytes]) -> bytes:
    """The bytes as they came; raises `zlib.error` where they or their dictionary are damaged."""
    if packing == RAW:
        return body
    if packing == ZLIB:
        return zlib.decompress(body)
    return zlib.decompressobj(_WINDOW, dictionary_of(packing)).decompress(body)
