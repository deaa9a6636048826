"""The work behind `encoder`: a tiktoken encoding made from a byte-level BPE's own merges and split pattern.

Both merge the neighbours of lowest rank until none is left. tiktoken joins any two neighbours whose bytes are a known
token, the tokenizer only the pairs on its list. These are the same where every known token comes out whole when it is
encoded alone: the pieces inside a token's bytes are merged in context as they are alone, so the last pair is the one on
the list. Tokens that do not come out whole never arise, and are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.uint32]

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern of `ByteLevel` itself."""
_GPT2_DIGITS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""The same in the pieces between single digits."""
_UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


class Unsuited(Exception):
    """This tokenizer has no fast way; the text says why."""


class FastWay:
    """What tiktoken does for one tokenizer; texts for which it cannot speak are left to the tokenizer."""

    def __init__(self, backend: Tokenizer, control_as_text: bool = False) -> None:
        try:
            import tiktoken
        except ImportError as error:
            raise Unsuited("tiktoken is not installed") from error
        rules = json.loads(backend.to_str())
        pattern, digits = _pattern_of(rules["pre_tokenizer"])
        self._normalise = None if _normaliser_of(rules["normalizer"]) is None else backend.normalizer.normalize_str
        ranks, ids = _ranks_of(rules["model"], backend)
        self._ids = np.array(ids, np.uint32)
        # Its own methods look for special tokens first; where there are none at all, they look at every character.
        self._core = tiktoken.Encoding(
            "stillhouse", pat_str=grouped(pattern), mergeable_ranks=ranks, special_tokens={_NEVER: _NEVER_ID}
        )._core_bpe
        self._doubtful = (
            re.compile(f"[{re.escape(''.join(_disputed_digits()))}]") if digits and _disputed_digits() else None
        )
        self._added = _Added(backend, self._normalise is not None, control_as_text)

    def encode(self, text: str) -> Ids | None:
        """The ids; None where only the tokenizer can tell them."""
        ascii_only = text.isascii()
        if not ascii_only and self._doubtful is not None and self._doubtful.search(text):
            return None
        normalise = None if ascii_only else self._normalise
        parts: list[Ids] = []
        for part in self._added.split(text, normalise):
            if part is None:
                return None
            if isinstance(part, int):
                parts.append(np.array([part], np.uint32))
                continue
            try:
                found = np.frombuffer(self._core.encode_to_tiktoken_buffer(part, _NOTHING), np.uint32)
            except ValueError:  # whitespace so long that its pattern engine gives up
                return None
            parts.append(self._ids[found])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)


_NOTHING: frozenset[str] = frozenset()
_NEVER, _NEVER_ID = "\U0010fffe\U0010fffd\U0010fffe", (1 << 32) - 2
"""A special token that is allowed nowhere: in a text it is characters as others are."""


def grouped(pattern: str) -> str:
    """The same pattern with its first alternatives that look neither ahead nor back in one group.

    tiktoken's pattern engine goes step by step through a pattern that looks around; a group that does not is left
    to the fast engine below it as a whole, which halves the time.
    """
    parts = _alternatives(pattern)
    plain = next((number for number, part in enumerate(parts) if _LOOKS_AROUND.search(part)), len(parts))
    return "|".join(["(?:" + "|".join(parts[:plain]) + ")", *parts[plain:]]) if plain > 1 else pattern


_LOOKS_AROUND = re.compile(r"\(\?(?:[=!>]|<[=!])|\\[1-9bBGKAzZ]|[+*?}]\+")


def _alternatives(pattern: str) -> list[str]:
    """What stands between the bars that are in no bracket."""
    parts, depth, in_class, start, at = [], 0, 0, 0, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif character == "[":
            in_class += 1
        elif character == "]" and in_class:
            in_class -= 1
        elif not in_class:
            depth += (character == "(") - (character == ")")
            if character == "|" and depth == 0:
                parts.append(pattern[start:at])
                start = at + 1
        at += 1
    return [*parts, pattern[start:]]


def encoded(backend: Tokenizer, fast: FastWay | None, texts: Sequence[str], control_as_text: bool = False) -> list[Ids]:
    """The ids of each text; those for which the fast way cannot speak go to the tokenizer."""
    if fast is None:
        with _control_as_text(backend, control_as_text):
            return [
                np.array(found.ids, np.uint32)
                for found in backend.encode_batch_fast(list(texts), add_special_tokens=False)
            ]
    found = [fast.encode(text) for text in texts]
    left = [number for number, ids in enumerate(found) if ids is None]
    for number, ids in zip(
        left,
        encoded(backend, None, [texts[number] for number in left], control_as_text) if left else [],
        strict=True,
    ):
        found[number] = ids
    return [ids for ids in found if ids is not None]


@contextmanager
def _control_as_text(backend: Tokenizer, wanted: bool) -> Iterator[None]:
    """The tokenizer with its reading of control tokens set for a while: transformers sets it with each of its calls."""
    before = backend.encode_special_tokens
    backend.encode_special_tokens = wanted
    try:
        yield
    finally:
        backend.encode_special_tokens = before


def control_table(backend: Tokenizer, unknown: int | None) -> npt.NDArray[np.bool_]:
    """[ids] whether each is a control token: an added one that is marked as special, but for the unknown one."""
    added = backend.get_added_tokens_decoder()
    table = np.zeros(1 + max([*added, *backend.get_vocab(with_added_tokens=True).values()], default=0), np.bool_)
    table[[number for number, token in added.items() if token.special and number != unknown]] = True
    return table


class _Added:
    """Added tokens in a text: first those that are looked for in the text as it is, then those in its normal form."""

    def __init__(self, backend: Tokenizer, normalises: bool, control_as_text: bool) -> None:
        tokens = {number: token for number, token in backend.get_added_tokens_decoder().items() if token.content}
        touchy = [token for token in tokens.values() if token.lstrip or token.rstrip or token.single_word]
        self._touchy = _any_of([token.content for token in touchy])
        if normalises and not all(token.content.isascii() for token in tokens.values()):
            raise Unsuited("its added tokens are changed by its normaliser")
        plain = {token.content: number for number, token in tokens.items() if token not in touchy}
        as_it_is = [token.content for token in tokens.values() if not token.normalized and token.content in plain]
        self._numbers = plain
        # They are looked for none the less: a shorter token inside one is not found by the tokenizer either.
        self._left = {token.content for token in tokens.values() if control_as_text and token.special}
        self._first = _any_of(as_it_is)
        self._second = _any_of([content for content in plain if content not in as_it_is])

    def split(self, text: str, normalise: Any) -> Iterator[str | int | None]:  # a method of the normaliser
        """Pieces of text and numbers of tokens; None where spaces around a token, or its being a word, decide."""
        if self._touchy is not None and self._touchy.search(text if normalise is None else normalise(text)):
            yield None
            return
        for outer in self._cut(self._first, text):
            if isinstance(outer, int):
                yield outer
            else:
                yield from self._cut(self._second, outer if normalise is None else normalise(outer))

    def _cut(self, pattern: re.Pattern[str] | None, text: str) -> Iterator[str | int]:
        start = 0
        if pattern is not None:
            for match in pattern.finditer(text):
                if match.group() in self._left:
                    continue
                if match.start() > start:
                    yield text[start : match.start()]
                yield self._numbers[match.group()]
                start = match.end()
        if start == 0 or start < len(text):
            yield text[start:] if start else text


def _any_of(contents: Sequence[str]) -> re.Pattern[str] | None:
    """Finds the longest of the tokens that begin at the first place where one does."""
    return (
        re.compile("|".join(map(re.escape, sorted(contents, key=lambda content: (-len(content), content)))))
        if contents
        else None
    )


def _normaliser_of(rules: Mapping[str, Any] | None) -> str | None:
    if rules is None:
        return None
    if rules["type"] == "Sequence" and not rules["normalizers"]:
        return None
    if rules["type"] in _UNICODE_FORMS:  # leaves ASCII as it is
        return str(rules["type"])
    raise Unsuited(f"its normaliser is `{rules['type']}`")


def _pattern_of(rules: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The pattern that cuts a text as the pre-tokenizer does, and whether it cuts out digits by their class."""
    stages = [] if rules is None else rules["pretokenizers"] if rules["type"] == "Sequence" else [rules]
    kinds = [stage["type"] for stage in stages]
    if not kinds or kinds[-1] != "ByteLevel" or kinds.count("ByteLevel") > 1:
        raise Unsuited("it is no byte-level BPE")
    if stages[-1]["add_prefix_space"]:
        raise Unsuited("it puts a space before each text")
    own = stages[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and own:
        return _GPT2, False
    if kinds == ["Digits", "ByteLevel"] and own and stages[0]["individual_digits"]:
        return _GPT2_DIGITS, True
    if kinds == ["Split", "ByteLevel"] and not own:
        return _split_pattern(stages[0]), False
    raise Unsuited(f"its text is cut in a way that is not known here: {', '.join(kinds)}")


def _split_pattern(stage: Mapping[str, Any]) -> str:
    pattern = stage["pattern"].get("Regex")
    isolated = stage["behavior"] == "Isolated" and not stage["invert"]
    kept = stage["behavior"] == "Removed" and stage["invert"]
    if pattern is None or not (isolated or kept):
        raise Unsuited("its text is cut in a way that is not known here: Split")
    # What the pattern leaves out is a piece too where pieces are isolated; tiktoken would drop it.
    return f"{pattern}|(?:(?!{pattern})[\\s\\S])+" if isolated else str(pattern)


def _ranks_of(model: Mapping[str, Any], backend: Tokenizer) -> tuple[dict[bytes, int], list[int]]:
    """Rank of each token's bytes, and the tokenizer's id for each rank."""
    if model.get("type", "BPE") != "BPE":
        raise Unsuited(f"its model is `{model.get('type')}`")
    odd = [
        key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(key)
    ]
    if odd:
        raise Unsuited(f"its model has `{odd[0]}`")
    letters = _letters()
    vocabulary: Mapping[str, int] = model["vocab"]
    missing = [letter for letter in letters if letter not in vocabulary]
    if missing:
        raise Unsuited(f"{len(missing)} bytes have no token")
    ranks = {bytes([byte]): rank for rank, (letter, byte) in enumerate(letters.items())}
    ids = [vocabulary[letter] for letter in letters]
    whole = model.get("ignore_merges", False)
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        token = first + second
        try:
            content = bytes([letters[letter] for letter in token])
        except KeyError:
            raise Unsuited(f"a merge makes `{token}`, which is no bytes") from None
        if content in ranks or not (whole or len(backend.model.tokenize(token)) == 1):
            continue
        ranks[content] = len(ids)
        ids.append(vocabulary[token])
    return ranks, ids


@cache
def _letters() -> dict[str, int]:
    """The printable character that stands for each byte in vocabularies of byte-level BPE (Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {**{chr(byte): byte for byte in shown}, **{chr(256 + number): byte for number, byte in enumerate(others)}}


@cache
def _disputed_digits() -> tuple[str, ...]:
    """Digits of one of the two libraries only: they follow different versions of Unicode."""
    import tiktoken
    from tokenizers import pre_tokenizers

    alone = {bytes([byte]): byte for byte in range(256)}
    # Without the long blocks in which there are no digits, and what lies above all digits.
    blocks = (range(0x80, 0x3400), range(0xA000, 0xAC00), range(0xF900, 0x17000), range(0x1B000, 0x20000))
    every = "".join(f"{chr(point)}a" for point in chain(*blocks))
    found = tiktoken.Encoding("digits", pat_str=r"\p{N}", mergeable_ranks=alone, special_tokens={})
    theirs = set(bytes(found.encode_ordinary(every)).decode())
    cut = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(every)
    ours = {piece for piece, _ in cut if len(piece) == 1} - {"a"}
    return tuple(sorted(theirs ^ ours))
