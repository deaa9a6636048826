"""Texts as sets of hashed n-grams of words or characters, a batch at a time.

`N` texts, `U` units (words or characters) of all texts in a row, `S` shingles of all texts in a row. Hashes are 64 bits
wide, computed modulo 2^64, and equal on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

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
_SHORT, _SHORT_BITS = np.uint64(48), np.uint64(2**48 - 1)
_SPACE, _MINUS = ord(" "), ord("-")
_SYMBOLS = "$+<=>^`|~" + SIGNS  # those of ASCII
_IS_SYMBOL = np.array([chr(i) in _SYMBOLS for i in range(256)])
_IS_DIGIT = np.array([chr(i) in "0123456789" for i in range(256)])
_ASCII = np.array(
    [ord(chr(i).lower()) if chr(i).isalnum() or chr(i) in f"_{_SYMBOLS}" or i > 127 else _SPACE for i in range(256)],
    dtype=np.uint8,
)
# The same for `bytes.translate`, three times as fast as indexing: what is no word is 0, and a symbol has a bit that is
# free in plain ASCII, so that one translation finds both.
_SYMBOL_BIT = 128
_WORD_CODES = np.where(_ASCII == _SPACE, 0, _ASCII | np.where(_IS_SYMBOL, _SYMBOL_BIT, 0))
_WORD_BYTES = _WORD_CODES.astype(np.uint8).tobytes()
_SPACE_IS_ZERO = bytes(0 if code == _SPACE else code for code in range(256))
_FIRST_BYTES = np.array([(1 << 8 * num) - 1 for num in range(9)], dtype=np.uint64)
_NOT_A_WORD = rf"[^\p{{L}}\p{{M}}\p{{N}}\p{{S}}_{SIGNS}]+"


# glibc takes large blocks from the system and gives them back each time, page by page, until it has seen a larger one
# freed. Freeing this one, which costs nothing, makes it keep the arrays of a batch: that halves the time of hashing.
np.empty(24 << 20, dtype=np.uint8)


class Shingles(NamedTuple):
    """Text `i` has the hashes `hashes_S[offsets[i]:offsets[i + 1]]`; at least one, repeats included."""

    hashes_S: Hashes
    offsets: Offsets

    def of(self, index: int) -> Hashes:
        """The distinct hashes of one text, sorted."""
        hashes = np.sort(self.hashes_S[self.offsets[index] : self.offsets[index + 1]])
        distinct = hashes[1:] != hashes[:-1]
        return hashes if distinct.all() else hashes[np.append(True, distinct)]

    def shortened(self) -> Shingles:
        """Every text's distinct hashes, sorted, in 48 bits: one sort for all of them, with the text's number before.

        Enough to compare two texts (of a billion pairs one is off by one n-gram in a hundred), not to look a hash up
        among all. Of at most 65,536 texts.
        """
        numbers_S = np.repeat(np.arange(len(self.offsets) - 1, dtype=np.uint64), np.diff(self.offsets))
        sorted_S = np.sort((numbers_S << _SHORT) | (self.hashes_S >> np.uint64(16)))
        distinct = np.append(True, sorted_S[1:] != sorted_S[:-1])[: len(sorted_S)]
        if not distinct.all():
            sorted_S = sorted_S[distinct]
        ends = np.searchsorted(sorted_S, np.arange(1, len(self.offsets), dtype=np.uint64) << _SHORT)
        return Shingles(sorted_S & _SHORT_BITS, np.append(0, ends).astype(np.int64))

    def slice(self, index: int) -> Hashes:
        """The hashes of one text as they stand here."""
        return self.hashes_S[self.offsets[index] : self.offsets[index + 1]]


def folded(texts: Sequence[str]) -> pa.Array:
    """The texts in the form that is compared: NFKC, lower case, the words of `text.ngrams` with one space between."""
    given = pa.array(texts, pa.large_string())
    plain = _folded_ascii(given)
    other = pc.invert(pc.string_is_ascii(given))
    if not pc.any(other).as_py():
        return plain
    return pc.replace_with_mask(plain, other, _folded_unicode(given.filter(other)))


def _folded_unicode(given: pa.Array) -> pa.Array:
    found = pc.utf8_lower(pc.utf8_normalize(given, form="NFKC"))
    # The minus sign, a symbol, stands in for the hyphen that is one.
    for pattern, replacement in (
        (r"-( ?\p{Nd})", r"−\1"),
        (rf"([\p{{S}}{SIGNS}])", r" \1 "),
        (_NOT_A_WORD, " "),
        ("−", "-"),
    ):
        found = pc.replace_substring_regex(found, pattern=pattern, replacement=replacement)
    return pc.utf8_trim_whitespace(found)


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
    minus = _minuses(given, offsets)
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


class Units(NamedTuple):
    """The words (or characters) of texts as hashes, one text after the other."""

    codes_U: Hashes
    offsets: Offsets


def units_of(texts: Sequence[str], unit: Unit) -> Units:
    """The words of the texts as they are compared (see `folded`), or their characters, hashed."""
    if unit == "characters":
        return _characters(folded(texts))
    given = pa.array(texts, pa.large_string())
    is_ascii = np.asarray(pc.string_is_ascii(given))
    if is_ascii.all():
        return _words(given, from_ascii=True)
    plain = _words(given.filter(pa.array(is_ascii)), from_ascii=True)
    other = _words(_folded_unicode(given.filter(pa.array(~is_ascii))), from_ascii=False)
    return _woven(plain, other, is_ascii)


def shingles(units: Units, size: int) -> Shingles:
    """Hashes of the `size`-grams; a text shorter than that is one shingle, its whole self."""
    codes_U, unit_offsets = units
    lengths = np.diff(unit_offsets)
    counts = np.maximum(lengths - size + 1, 1)
    offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
    padded = np.append(codes_U, np.zeros(size, dtype=np.uint64))
    sums_U = padded[: len(codes_U) + 1].copy()
    for step in range(1, size):
        sums_U *= _MULTIPLIER
        sums_U += padded[step : step + len(sums_U)]
    short = np.flatnonzero(lengths < size)
    if len(short) == 0:
        # All but those that go over the end of a text.
        inside_U = np.ones(len(codes_U), dtype=bool)
        for step in range(1, size):
            inside_U[unit_offsets[1:] - step] = False
        sums_S = sums_U[:-1][inside_U]
    else:
        starts_S = np.arange(offsets[-1]) + np.repeat(unit_offsets[:-1] - offsets[:-1], counts)
        sums_S = sums_U[starts_S]
        whole = np.zeros(len(short), dtype=np.uint64)
        for step in range(size):
            here = unit_offsets[short] + step
            inside = step < lengths[short]
            whole = np.where(inside, whole * _MULTIPLIER + padded[np.where(inside, here, 0)], whole)
        sums_S[offsets[short]] = whole
    return Shingles(mixed(sums_S), offsets)


def mixed(values: Hashes) -> Hashes:
    """Every input bit spread over every output bit (the finaliser of SplitMix64, Steele et al. 2014)."""
    room = values >> np.uint64(30)
    found = values ^ room
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= np.right_shift(found, np.uint64(27), out=room)
    found *= np.uint64(0x94D049BB133111EB)
    found ^= np.right_shift(found, np.uint64(31), out=room)
    return found


def _words(texts: pa.Array, *, from_ascii: bool) -> Units:
    """The words of raw texts that are plain ASCII, or of folded texts, whose words have one space between.

    A word is hashed eight bytes at a time, straight from where it stands: nothing is split or copied.
    """
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = bytes(memoryview(data_buffer or b"")[offsets[0] : offsets[-1]])
    offsets = offsets - offsets[0]
    size = len(raw)
    if not raw:
        return Units(np.zeros(0, dtype=np.uint64), np.zeros(len(texts) + 1, dtype=np.int64))
    padded = bytearray(raw.translate(_WORD_BYTES if from_ascii else _SPACE_IS_ZERO))
    padded += bytes(8)
    data = np.frombuffer(padded, dtype=np.uint8)
    is_word = data[:size] != 0
    opens = np.empty_like(is_word)
    opens[0] = True
    if from_ascii:
        alone = data[:size] >= _SYMBOL_BIT
        minus = _minuses(np.frombuffer(raw, dtype=np.uint8), offsets)
        if len(minus):
            data[minus], alone[minus], is_word[minus] = _MINUS, True, True
        np.logical_not(is_word[:-1], out=opens[1:])
        if alone.any():
            data &= _SYMBOL_BIT - 1
            opens |= alone
            opens[1:] |= alone[:-1]
    else:
        np.logical_not(is_word[:-1], out=opens[1:])
    opens[offsets[:-1][offsets[:-1] < size]] = True
    opens &= is_word
    starts = np.flatnonzero(opens)
    return Units(_word_hashes(data, starts, size), np.searchsorted(starts, offsets).astype(np.int64))


def _word_hashes(data: Bytes, starts: Offsets, size: int) -> Hashes:
    """One hash for each word; from its start on, `data` holds the word, then zeros up to the next start."""
    eights = np.ndarray((size + 1,), dtype="<u8", buffer=data, strides=(1,))
    room = np.diff(starts, append=size)
    hashes = mixed(eights[starts] & _FIRST_BYTES[np.minimum(room, 8)])
    words = np.flatnonzero(room > 8)
    places, room = starts[words] + 8, room[words] - 8
    while len(words):
        chunks = eights[places] & _FIRST_BYTES[np.minimum(room, 8)]
        goes_on = chunks != 0
        words, places, room = words[goes_on], places[goes_on], room[goes_on]
        hashes[words] = mixed(hashes[words] * _MULTIPLIER + chunks[goes_on])
        more = room > 8
        words, places, room = words[more], places[more] + 8, room[more] - 8
    return hashes


def _minuses(given: Bytes, offsets: Offsets) -> Offsets:
    """Where a minus is a symbol: a digit comes next in its text, perhaps after one space."""
    minus = np.flatnonzero(given == _MINUS)
    if len(minus) == 0:
        return minus
    ends = offsets[np.searchsorted(offsets, minus, side="right")]
    after = np.append(given, np.zeros(2, dtype=np.uint8))
    behind = minus + 1 + (after[minus + 1] == _SPACE)
    found: Offsets = minus[_IS_DIGIT[after[behind]] & (behind < ends)]
    return found


def _woven(plain: Units, other: Units, is_plain: npt.NDArray[np.bool_]) -> Units:
    """The units of two kinds of texts in the texts' own order."""
    lengths = np.empty(len(is_plain), dtype=np.int64)
    firsts = np.empty(len(is_plain), dtype=np.int64)
    lengths[is_plain], lengths[~is_plain] = np.diff(plain.offsets), np.diff(other.offsets)
    firsts[is_plain], firsts[~is_plain] = plain.offsets[:-1], other.offsets[:-1] + len(plain.codes_U)
    offsets = np.append(0, np.cumsum(lengths))
    places = np.arange(offsets[-1]) + np.repeat(firsts - offsets[:-1], lengths)
    return Units(np.concatenate([plain.codes_U, other.codes_U])[places], offsets)


def _characters(texts: pa.Array) -> Units:
    lengths = np.asarray(pc.utf8_length(texts), dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    joined = "".join(texts.to_pylist())
    codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    return Units(mixed(codes + np.uint64(1)), offsets)
