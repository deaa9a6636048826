"""JSON values from a file of any size, one after the other, with the line where each begins."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from ..core.errors import RecipeError

BLOCK_BYTES = 1 << 20
LONGEST_VALUE = 1 << 26
_SPACE = " \t\r\n"
# An error this close to the end of what was read may only mean that the rest is not there yet.
_MAY_BE_CUT = 16


def _constant(name: str) -> None:
    """NaN, which some programs write for a missing value, is one; the infinities are nothing that JSON knows."""
    if name != "NaN":
        raise json.JSONDecodeError(f"{name} is no number", name, 0)


_DECODER = json.JSONDecoder(parse_constant=_constant)
loads = _DECODER.decode


class Located(NamedTuple):
    """A value and the line (from 1) on which it begins."""

    line: int
    value: Any


class TextBlocks:
    """UTF-8 text of a file in blocks; raises `RecipeError` with byte and line where it is not UTF-8."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._bytes_before = 0
        self._lines_before = 0

    def next(self, size: int = BLOCK_BYTES) -> str:
        """The next characters, "" at the end."""
        while True:
            block = self._file.read(size)
            pending = self._decoder.getstate()[0]
            try:
                text = self._decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                seen = pending + block
                line = self._lines_before + seen.count(b"\n", 0, error.start) + 1
                raise not_utf8(self._name, self._bytes_before - len(pending) + error.start, line, seen) from None
            self._bytes_before += len(block)
            self._lines_before += block.count(b"\n")
            if text or not block:
                return text


def not_utf8(name: str, offset: int, line: int, start: bytes) -> RecipeError:
    """The error for a file whose byte `offset` is not UTF-8; `start` are bytes that may show what it is instead."""
    file = name.rpartition("/")[2]
    hint = f"Save it as UTF-8, for instance with `iconv -f latin1 -t utf-8 {file} > utf8-{file}`."
    if offset == 0 and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = f"It looks like UTF-16: `iconv -f utf-16 -t utf-8 {file} > utf8-{file}`."
    return RecipeError(f"{name}, line {line}: byte {offset} is not UTF-8 text", hint)


def json_values(file: BinaryIO, name: str) -> Iterator[Located]:
    """The elements of the array in the file, or, where it does not begin with `[`, its values one after the other."""
    yield from _Scanner(TextBlocks(file, name), name).values()


class _Scanner:
    """A window on the text: `buffer[place:]` is not yet taken; `line` is the line of `buffer[counted]`."""

    def __init__(self, blocks: TextBlocks, name: str) -> None:
        self._blocks, self._name = blocks, name
        self._decode = _DECODER.raw_decode
        self._buffer, self._place = "", 0
        self._line, self._counted = 1, 0

    def values(self) -> Iterator[Located]:
        first = self._skip_space()
        in_array = first == "["
        if in_array:
            self._place += 1
            if self._skip_space() == "]":
                self._place += 1
                self._expect_end()
                return
        while self._skip_space():
            self._line, self._counted = self._line_at(self._place), self._place
            line = self._line
            yield Located(line, self._value())
            following = self._skip_space()
            if in_array:
                if following == "]":
                    self._place += 1
                    self._expect_end()
                    return
                if following != ",":
                    raise self._wrong("a comma or `]` is missing", self._place)
                self._place += 1
                if self._skip_space() == "]":
                    raise self._wrong("there is a comma before `]`", self._place)
        if in_array:
            raise self._wrong("the list is not closed: `]` is missing", len(self._buffer))

    def _value(self) -> Any:
        size = BLOCK_BYTES
        while True:
            try:
                value, self._place = self._decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                cut = open_string or error.pos >= len(self._buffer) - _MAY_BE_CUT
                too_long = len(self._buffer) - self._place > LONGEST_VALUE
                if not cut or too_long or not self._read(size):
                    raise self._wrong(error.msg[:1].lower() + error.msg[1:], error.pos) from None
                size *= 2  # so that a long value is not scanned anew for each block
            except RecursionError:
                raise self._wrong("nested too deeply", self._place) from None
            else:
                return value

    def _skip_space(self) -> str:
        """Moves to the next character that is no space and returns it, "" at the end."""
        while True:
            while self._place < len(self._buffer):
                if self._buffer[self._place] not in _SPACE:
                    return self._buffer[self._place]
                self._place += 1
            if not self._read(BLOCK_BYTES):
                return ""

    def _read(self, size: int) -> bool:
        more = self._blocks.next(size)
        self._line, self._counted = self._line_at(self._place), 0
        self._buffer, self._place = self._buffer[self._place :] + more, 0
        return bool(more)

    def _expect_end(self) -> None:
        if self._skip_space():
            raise self._wrong("there is something after the end of the list", self._place)

    def _line_at(self, place: int) -> int:
        return self._line + self._buffer.count("\n", self._counted, place)

    def _wrong(self, message: str, place: int) -> RecipeError:
        start = self._buffer.rfind("\n", 0, place) + 1
        end = self._buffer.find("\n", place)
        text = self._buffer[start : len(self._buffer) if end < 0 else end]
        return not_json(self._name, self._line_at(place), message, place - start, text)


def not_json(name: str, line: int, message: str, column: int, text: str) -> RecipeError:
    """The error for a line that is not JSON; shows the text around `column` (from 0)."""
    start = max(0, column - 60)
    shown = ("…" if start else "") + text[start : start + 100].strip() + ("…" if start + 100 < len(text) else "")
    return RecipeError(
        f"{name}, line {line}: this is not JSON ({message} at column {column + 1})", f"The line: {shown}"
    )
