"""A keyed permutation of 0 … n - 1 that can be asked for any index, and back, without an array.

A Feistel network over pairs (left, right) with left < a and right < b: each round adds a hash of one half to the other,
modulo its size. a·b is the product of near equal factors that just reaches n; results outside n are sent through again
(cycle walking), which is rare since a·b - n < a. Integers only, so every version and platform agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import isqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_ROUNDS = 6
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key_of(*parts: str | int) -> int:
    """A 64-bit key from names and numbers."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def permuted(index: Int64s, size: int, key: int) -> Int64s:
    """Where the permutation of 0 … `size` - 1 under `key` sends each index."""
    return _walk(index, size, _network(size, key), _forward)


def unpermuted(index: Int64s, size: int, key: int) -> Int64s:
    """The inverse of `permuted`."""
    return _walk(index, size, _network(size, key), _backward)


def marks(index: Int64s, key: int) -> UInt64s:
    """A different, random-looking number for each index: sorting by it shuffles."""
    return _mixed(_mixed(index.astype(np.uint64)) ^ np.uint64(key))


class _Network(NamedTuple):
    left_size: int
    right_size: int
    keys: tuple[np.uint64, ...]


def _network(size: int, key: int) -> _Network:
    left_size = isqrt(max(size, 1) - 1) + 1
    keys = tuple(np.uint64(key_of(key, number)) for number in range(_ROUNDS))
    return _Network(left_size, max(1, -(-size // left_size)), keys)


def _walk(index: Int64s, size: int, network: _Network, step: Callable[[UInt64s, _Network], UInt64s]) -> Int64s:
    if size <= 1:
        return np.zeros_like(index)
    result = step(index.astype(np.uint64), network)
    while len(outside := np.flatnonzero(result >= np.uint64(size))):
        result[outside] = step(result[outside], network)
    return result.astype(np.int64)


def _forward(value: UInt64s, network: _Network) -> UInt64s:
    sizes = (np.uint64(network.left_size), np.uint64(network.right_size))
    left, right = np.divmod(value, sizes[1])
    halves = [left, right]
    for number, key in enumerate(network.keys):
        target, other = number % 2, 1 - number % 2
        moved = halves[target] + _hashed(halves[other], key, sizes[target])
        halves[target] = np.where(moved >= sizes[target], moved - sizes[target], moved)
    result: UInt64s = halves[0] * sizes[1] + halves[1]
    return result


def _backward(value: UInt64s, network: _Network) -> UInt64s:
    sizes = (np.uint64(network.left_size), np.uint64(network.right_size))
    left, right = np.divmod(value, sizes[1])
    halves = [left, right]
    for number, key in reversed(list(enumerate(network.keys))):
        target, other = number % 2, 1 - number % 2
        hashed = _hashed(halves[other], key, sizes[target])
        halves[target] = np.where(
            halves[target] >= hashed, halves[target] - hashed, halves[target] + sizes[target] - hashed
        )
    result: UInt64s = halves[0] * sizes[1] + halves[1]
    return result


def _hashed(value: UInt64s, key: np.uint64, size: np.uint64) -> UInt64s:
    """A hash in 0 … size - 1 (size < 2^32) of each: the finaliser of splitmix64, its high half scaled down."""
    result: UInt64s = ((_mixed(value ^ key) >> _HALF) * size) >> _HALF
    return result


def _mixed(value: UInt64s) -> UInt64s:
    mixed = (value ^ (value >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    result: UInt64s = mixed ^ (mixed >> np.uint64(31))
    return result
