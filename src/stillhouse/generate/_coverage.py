"""What new inputs are to cover, what they have covered so far, and what the next call asks for.

All of it follows from the accepted rows and the number of the call, so that a resumed growth goes on the same.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.outcome import Row
from ..core.plain_sum import plain_sum
from ..rows._apportion import quotas
from .policy import ClusterPolicy, TaskPolicy

if TYPE_CHECKING:
    from .amplify import Amplify

LEVELS = ("easy", "medium", "hard")
OTHER = "another"
CLUSTER, PATTERN, DIFFICULTY = "cluster", "pattern", "difficulty"
_WHOLE = 1_000_000


class Cell(NamedTuple):
    """One value of one axis, and the share of the new inputs that it is to have."""

    name: str
    share: float


class Band(NamedTuple):
    """A range of lengths in characters, both ends in it."""

    shortest: int
    longest: int

    @property
    def name(self) -> str:
        return f"{self.shortest} to {self.longest} characters"


@dataclass(frozen=True)
class Part:
    """A cluster of seeds, or all of them: which they are, how it is described, the kinds of inputs in it."""

    seeds: list[int]
    policy: Mapping[str, Any]
    patterns: list[str]
    share: float


class Order(NamedTuple):
    """What one call asks for: how many of each pattern, level and band; empty where nothing is asked."""

    part: int
    patterns: list[int]
    levels: list[int]
    bands: list[int]


class Coverage:
    """The plan of a growth over `seeds` to `wanted` new inputs."""

    def __init__(self, step: Amplify, policy: TaskPolicy, seeds: Sequence[Row], wanted: int, span: Band) -> None:
        self._step = step
        self._wanted = wanted
        self.parts = _parts(policy, seeds)
        self.bands = _bands([len(seed["input"]) for seed in seeds], step.bands, span)
        self._band_shares = _band_shares([len(seed["input"]) for seed in seeds], self.bands)
        levels = step.difficulty or {}
        self.levels = [Cell(level, levels[level]) for level in LEVELS if level in levels]
        shares = np.array([round(cell.share * _WHOLE) for cell in self.levels], np.int64)
        self.most = dict(zip((cell.name for cell in self.levels), quotas(shares, wanted).tolist(), strict=True))
        """New inputs of each level at most."""
        self._seen, self._taken = Tally(self.bands), Tally(self.bands)  # of what calls see, and of all

    @property
    def labelled(self) -> bool:
        """Whether new inputs have to say what they are."""
        return bool(self.levels) or "patterns" in self._step.steer

    @property
    def by_parts(self) -> bool:
        """Whether each call is about one of several clusters."""
        return len(self.parts) > 1

    @property
    def steered(self) -> bool:
        """Whether calls ask for what is short."""
        return self.labelled or self.by_parts or "lengths" in self._step.steer

    def order(self, call: int, accepted: Sequence[Row]) -> Order:
        """What call number `call` asks for, leaning to what is short among the rows that it sees."""
        have = self._seen.upto(accepted)
        draws = random.Random(f"{self._step.seed}:{call}:coverage")
        shares = [part.share for part in self.parts]
        part = _split(1, self._short(shares, [have.clusters[place] for place in range(len(shares))]), draws).index(1)
        number, own = self._step.per_call, self.parts[part]
        patterns: list[int] = []
        if "patterns" in self._step.steer and own.patterns:
            even = [own.share / len(own.patterns)] * len(own.patterns)
            short = self._short(even, [have.patterns[part, pattern] for pattern in own.patterns])
            patterns = _split(number, short, draws)
        levels = [self.most[cell.name] - have.levels[cell.name] for cell in self.levels]
        bands: list[int] = []
        if "lengths" in self._step.steer and len(self.bands) > 1:
            short = self._short(self._band_shares, [have.lengths[band] for band in self.bands])
            bands = _split(number, short, draws)
        return Order(part, patterns, _split(number, levels, draws) if levels else [], bands)

    def full(self, level: str | None, more: Mapping[str | None, int], accepted: Sequence[Row]) -> bool:
        """Whether there are enough inputs of a level, `more` of which were taken from the same call."""
        if not self.levels or level is None:
            return False
        have = self._taken.upto(accepted).levels[level] + more.get(level, 0)
        return have >= int(self.most.get(level, 0))

    def short_of(self, accepted: Sequence[Row]) -> str:
        """The levels of which there are too few, in words."""
        have = self._taken.upto(accepted).levels
        short = [f"{have[name]} of {most} {name}" for name, most in self.most.items() if have[name] < most]
        return ", ".join(short)

    def report(self, accepted: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
        """Planned and reached shares by axis and cell, of those axes that are known."""
        have, found = self._taken.upto(accepted), {}
        total = max(1, len(accepted))

        def line(planned: float | None, number: int) -> dict[str, Any]:
            shares = {"planned": None if planned is None else round(planned, 4), "reached": round(number / total, 4)}
            return {**shares, "rows": number}

        found["lengths"] = {
            band.name: line(share if "lengths" in self._step.steer else None, have.lengths[band])
            for band, share in zip(self.bands, self._band_shares, strict=True)
        }
        if self.labelled:
            patterns = {}
            for place, part in enumerate(self.parts):
                for pattern in part.patterns:
                    steered = "patterns" in self._step.steer
                    planned = part.share / len(part.patterns) if steered else None
                    name = f"cluster {place + 1}: {pattern}" if self.by_parts else pattern
                    patterns[name] = line(planned, have.patterns[place, pattern])
            others = sum(number for (_, pattern), number in have.patterns.items() if pattern == OTHER)
            found["patterns"] = {**patterns, OTHER: line(0.0 if "patterns" in self._step.steer else None, others)}
            planned_levels = {cell.name: cell.share for cell in self.levels}
            found["difficulty"] = {
                level: line(planned_levels.get(level, 0.0) if self.levels else None, have.levels[level])
                for level in LEVELS
            }
        if self.by_parts:
            found["clusters"] = {
                f"cluster {place + 1}": line(part.share, have.clusters[place]) for place, part in enumerate(self.parts)
            }
        return found

    def _short(self, shares: Sequence[float], have: Sequence[int]) -> list[float]:
        return [max(0.0, share * self._wanted - number) for share, number in zip(shares, have, strict=True)]


class Tally:
    """How many rows are in each cell. Told more and more rows, it goes on from those it counted last time."""

    def __init__(self, bands: Sequence[Band]) -> None:
        self._bands = bands
        self._clear()

    def _clear(self) -> None:
        self._counted = 0
        self.clusters: Counter[int] = Counter()
        self.patterns: Counter[tuple[int, str | None]] = Counter()
        self.levels: Counter[str | None] = Counter()
        self.lengths: Counter[Band] = Counter()

    def upto(self, accepted: Sequence[Row]) -> Tally:
        """This tally, over `accepted`."""
        if len(accepted) < self._counted:
            self._clear()
        for place in range(self._counted, len(accepted)):
            row = accepted[place]
            part = (row.get(CLUSTER) or 1) - 1
            self.clusters[part] += 1
            self.patterns[part, row.get(PATTERN)] += 1
            self.levels[row.get(DIFFICULTY)] += 1
            self.lengths[band_of(row["input"], self._bands)] += 1
        self._counted = len(accepted)
        return self


def band_of(text: str, bands: Sequence[Band]) -> Band:
    """The band of a text's length."""
    return next((band for band in bands if len(text) <= band.longest), bands[-1])


def _parts(policy: TaskPolicy, seeds: Sequence[Row]) -> list[Part]:
    whole = policy.model_dump(exclude={"clusters"})
    place_of = {seed["_id"]: place for place, seed in enumerate(seeds)}
    parts: list[Part] = []
    for cluster in policy.clusters:
        own = [place_of[row] for row in cluster.rows if row in place_of]
        if own:
            parts.append(Part(own, _words(cluster), _distinct(cluster.reasoning_patterns), len(own) / len(seeds)))
    covered = sum(len(part.seeds) for part in parts)
    if covered < len(seeds) or len(parts) < 2:
        # Seeds that the policy was not drawn from belong to no cluster: then all are taken together.
        return [Part(list(range(len(seeds))), whole, _distinct(policy.reasoning_patterns), 1.0)]
    return parts


def _words(cluster: ClusterPolicy) -> Mapping[str, Any]:
    return cluster.model_dump(exclude={"rows"})


def _distinct(patterns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(pattern.rstrip(". ") for pattern in patterns if pattern.strip(". ")))


def _bands(lengths: Sequence[int], number: int, span: Band) -> list[Band]:
    """At most `number` ranges of lengths, each of about as many seeds; together they are the span."""
    ordered = sorted(lengths)
    ends = sorted({ordered[len(ordered) * place // number] for place in range(1, number)} - {span.longest})
    ends = [end for end in ends if span.shortest <= end < span.longest]
    starts = [span.shortest, *(end + 1 for end in ends)]
    return [Band(start, end) for start, end in zip(starts, [*ends, span.longest], strict=True)]


def _band_shares(lengths: Sequence[int], bands: Sequence[Band]) -> list[float]:
    places = [next((n for n, band in enumerate(bands) if length <= band.longest), len(bands) - 1) for length in lengths]
    return [places.count(place) / len(lengths) for place in range(len(bands))]


def _split(number: int, weights: Sequence[float], draws: random.Random) -> list[int]:
    """`number` shared out in proportion to weights, what does not divide by chance (systematic sampling).

    Where all weights are 0 they count as equal.
    """
    total = plain_sum(weights)
    exact = [number * weight / total if total > 0 else number / len(weights) for weight in weights]
    start, reached, ends = draws.random(), 0.0, [0]
    for share in exact[:-1]:
        reached += share
        ends.append(min(number, int(reached + start)))
    ends.append(number)
    return [end - begin for begin, end in pairwise(ends)]
