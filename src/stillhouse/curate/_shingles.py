"""Texts as sets of hashed n-grams of words or characters, a batch at a time.

`N` texts, `U` units (words or characters) of all texts in a row, `S` shingles of all texts in a row. Hashes are 64 bits
wide, computed modulo 2^64, and equal on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..text.ngrams import SIGNS

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Unit = Literal["words", "characters"]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPACE, _MINUS = ord(" "), ord("-")
_SYMBOLS = "$+<=>^`|~" + SIGNS  # those of ASCII
_IS_SYMBOL = np.array([chr(i) in _SYMBOLS for i in range(256)])
_IS_DIGIT = np.array([chr(i) in "0123456789" for i in range(256)])
_ASCII = np.array(
    [ord(chr(i).lower()) if chr(i).isalnum() or chr(i) in f"_{_SYMBOLS}" or i > 127 else _SPACE for i in range(256)],
    dtype=np.uint8,
)
_NOT_A_WORD = rf"[^\p{{L}}\p{{M}}\p{{N}}\p{{S}}_{SIGNS}]+"


class Shingles(NamedTuple):
    """Text `i` has the hashes `hashes_S[offsets[i]:offsets[i + 1]]`; at least one, repeats included."""

    hashes_S: Hashes
    offsets: Offsets

    def of(self, index: int) -> Hashes:
        """The distinct hashes of one text, sorted."""
        hashes = np.sort(self.hashes_S[self.offsets[index] : self.offsets[index + 1]])
        distinct = hashes[1:] != hashes[:-1]
        return hashes if distinct.all() else hashes[np.append(True, distinct)]


def folded(texts: Sequence[str]) -> pa.Array:
    """The texts in the form that is compared: NFKC, lower case, the words of `text.ngrams` with one space between."""
    given = pa.array(texts, pa.large_string())
    plain = _folded_ascii(given)
    other = pc.invert(pc.string_is_ascii(given))
    if not pc.any(other).as_py():
        return plain
    found = pc.utf8_lower(pc.utf8_normalize(given.filter(other), form="NFKC"))
    # The minus sign, a symbol, stands in for the hyphen that is one.
    for pattern, replacement in (
        (r"-( ?\p{Nd})", r"−\1"),
        (rf"([\p{{S}}{SIGNS}])", r" \1 "),
        (_NOT_A_WORD, " "),
        ("−", "-"),
    ):
        found = pc.replace_substring_regex(found, pattern=pattern, replacement=replacement)
    return pc.replace_with_mask(plain, other, pc.utf8_trim_whitespace(found))


def _folded_ascii(texts: pa.Array) -> pa.Array:
    """What `folded` makes of texts that are plain ASCII, three times as fast; the others come out as nonsense."""
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data, offsets = _spread(np.frombuffer(data_buffer or b"", dtype=np.uint8)[: offsets[-1]], offsets)
    is_word = data != _SPACE
    # A space stays where a word stands before it and the text has not come to its end; `first` has no "before".
    keep = is_word.copy()
    keep[1:] |= is_word[:-1]
    first = offsets[:-1][np.diff(offsets) > 0]
    keep[first] = is_word[first]
    new_offsets = np.append(0, np.cumsum(_counts(keep, offsets)))
    short = data[keep]
    ends = new_offsets[1:] - 1
    trailing = (np.diff(new_offsets) > 0) & (short[ends] == _SPACE) if len(short) else np.zeros(len(texts), dtype=bool)
    new_data = np.delete(short, ends[trailing])
    new_offsets = new_offsets - np.append(0, np.cumsum(trailing))
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(new_offsets), pa.py_buffer(new_data))


def _spread(given: Bytes, offsets: Offsets) -> tuple[Bytes, Offsets]:
    """The bytes with punctuation as space and a space on both sides of symbols, and the offsets of texts then."""
    data, is_symbol = _ASCII[given], _IS_SYMBOL[given]
    minus = np.flatnonzero(given == _MINUS)
    if len(minus):
        # A minus is a symbol where a digit comes next in its text, perhaps after one space.
        ends = offsets[np.searchsorted(offsets, minus, side="right")]
        after = np.append(given, np.zeros(2, dtype=np.uint8))
        behind = minus + 1 + (after[minus + 1] == _SPACE)
        minus = minus[_IS_DIGIT[after[behind]] & (behind < ends)]
        data[minus], is_symbol[minus] = _MINUS, True
    if not is_symbol.any():
        return data, offsets
    widths = np.where(is_symbol, 3, 1)
    places = np.append(0, np.cumsum(widths))
    spread = np.repeat(data, widths)
    firsts = places[:-1][is_symbol]
    spread[firsts] = spread[firsts + 2] = _SPACE
    return spread, places[offsets]


def _counts(flags: npt.NDArray[np.bool_], offsets: Offsets) -> Offsets:
    """How many flags are set between one offset and the next. Without a running sum, whose size would cost more."""
    starts = offsets[:-1]
    filled = np.diff(offsets) > 0
    found = np.zeros(len(starts), dtype=np.int64)
    if filled.any():
        found[filled] = np.add.reduceat(flags, starts[filled], dtype=np.int64)
    return found


def shingles(texts: pa.Array, size: int, unit: Unit) -> Shingles:
    """Hashes of the `size`-grams of folded texts; a text shorter than that is one shingle, its whole self."""
    codes_U, unit_offsets = _words(texts) if unit == "words" else _characters(texts)
    lengths = np.diff(unit_offsets)
    counts = np.maximum(lengths - size + 1, 1)
    offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
    starts_S = np.arange(offsets[-1]) + np.repeat(unit_offsets[:-1] - offsets[:-1], counts)
    padded = np.append(codes_U, np.zeros(size, dtype=np.uint64))
    sums_U = padded[: len(codes_U) + 1].copy()
    for step in range(1, size):
        sums_U = sums_U * _MULTIPLIER + padded[step : step + len(sums_U)]
    sums_S = sums_U[starts_S]
    short = np.flatnonzero(lengths < size)
    whole = np.zeros(len(short), dtype=np.uint64)
    for step in range(size):
        here = unit_offsets[short] + step
        inside = step < lengths[short]
        whole = np.where(inside, whole * _MULTIPLIER + padded[np.where(inside, here, 0)], whole)
    sums_S[offsets[short]] = whole
    return Shingles(mixed(sums_S), offsets)


def mixed(values: Hashes) -> Hashes:
    """Every input bit spread over every output bit (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _words(texts: pa.Array) -> tuple[Hashes, Offsets]:
    words = pc.split_pattern(texts, pattern=" ")
    offsets = np.asarray(words.offsets, dtype=np.int64)
    offsets = offsets - offsets[0]
    distinct = words.flatten().dictionary_encode()
    hashes = _hashes_of(distinct.dictionary)
    return hashes[np.asarray(distinct.indices)], offsets


def _characters(texts: pa.Array) -> tuple[Hashes, Offsets]:
    lengths = np.asarray(pc.utf8_length(texts), dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    joined = "".join(texts.to_pylist())
    codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    return mixed(codes + np.uint64(1)), offsets


def _hashes_of(words: Any) -> Hashes:
    """One hash for each word of an Arrow array: a polynomial over its bytes, mixed."""
    _, offsets_buffer, data_buffer = words.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[words.offset : words.offset + len(words) + 1]
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
    offsets = offsets - offsets[0]
    lengths = np.diff(offsets)
    place = np.arange(len(data)) - np.repeat(offsets[:-1], lengths)
    powers = np.ones(int(lengths.max(initial=0)) + 1, dtype=np.uint64)
    powers[1:] = np.cumprod(np.full(len(powers) - 1, _MULTIPLIER))
    terms = np.append((data + np.uint64(1)) * powers[place], np.uint64(0))
    sums = np.where(lengths > 0, np.add.reduceat(terms, offsets[:-1]) if len(lengths) else terms[:0], np.uint64(0))
    return mixed(sums + lengths.astype(np.uint64))
