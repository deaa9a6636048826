"""From the shares that a user or a policy asks for to the weights of rows that hold: the guard rails of a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import isfinite

from ..core.errors import RecipeError
from ..core.plain_sum import plain_sum
from ._epochs import SourceRows
from ._mixing import TOTAL, integer_weights
from .mixing import Mixture

MaxEpochs = tuple[float | None, ...]
"""How often each source may be read; None for any number of times."""


class GuardRails:
    """Floors, ceilings, how often a source may be read, and shares of tokens as weights of rows."""

    def __init__(self, mixture: Mixture, sources: Sequence[SourceRows], max_epochs: MaxEpochs | None = None) -> None:
        self._mixture = mixture
        self._sources = sources
        self._names = [source.name for source in sources]
        self.max_epochs = max_epochs or epochs_of(mixture.max_epochs, self._names)
        self._floors = self._bounds("floor", mixture.floors, 0.0)
        self._ceilings = self._bounds("ceiling", mixture.ceilings, 1.0)
        self._bounded = bool(mixture.floors or mixture.ceilings)
        self._check()
        self._lengths = (
            [Fraction(source.report.num_tokens, source.report.num_rows) for source in sources]
            if mixture.share == "tokens"
            else None
        )
        """Tokens of a row, where shares are of tokens."""

    def weights(self, shares: Sequence[float]) -> tuple[int, ...]:
        """Weights of rows for these shares, within floors and ceilings."""
        if not self._bounded and self._lengths is None:
            return integer_weights(shares)
        exact = [Fraction(share) for share in shares]
        if self._bounded:
            found = _within(exact, self._floors, self._ceilings)
            if found is None:
                raise RecipeError(
                    "Mixture: the ceilings leave a part of the rows to no source",
                    "Raise a ceiling, or give a weight to a source that has none.",
                )
            exact = found
        return integer_weights(self._of_rows(exact))

    def shares(self, weights: Sequence[int]) -> list[Fraction]:
        """The inverse of `weights`: shares of rows, or of tokens where the mixture's are."""
        lengths = self._lengths or [Fraction(1)] * len(weights)
        products = [weight * length for weight, length in zip(weights, lengths, strict=True)]
        return [product / sum(products) for product in products]

    def nearer(self, shares: Sequence[float], now: Sequence[int]) -> list[float]:
        """`shares`, or a point on the way to them, where none may change by more than `max_change`."""
        most = self._mixture.max_change
        before, whole = self.shares(now), plain_sum(shares)
        after = [Fraction(share) / Fraction(whole) for share in shares]
        farthest = max(abs(new - old) for new, old in zip(after, before, strict=True))
        if most is None or farthest <= Fraction(most):
            return list(shares)
        part = Fraction(most) / farthest
        return [float(old + (new - old) * part) for new, old in zip(after, before, strict=True)]

    def allowed(self, asked: Sequence[int], taken: Sequence[int]) -> tuple[int, ...] | None:
        """`asked` without the sources that have no row left; their shares go to the others, in proportion."""
        spent = [self._is_spent(number, rows) for number, rows in enumerate(taken)]
        if not any(spent):
            return tuple(asked)
        left = [0 if gone else weight for weight, gone in zip(asked, spent, strict=True)]
        if not any(left):
            return None
        if self._bounded:
            none = Fraction(0)
            floors = [none if gone else floor for floor, gone in zip(self._floors, spent, strict=True)]
            found = _within(self.shares(left), floors, self._ceilings)
            if found is not None:  # else nothing is left but to go above a ceiling
                return integer_weights(self._of_rows(found))
        return integer_weights(left)

    def limit(self, source: int, taken: int) -> int | None:
        """The rows that a source may give; None where that lies beyond `taken` for certain."""
        most = self.max_epochs[source]
        return None if most is None else self._sources[source].rows_of_epochs(most, beyond=taken)

    def _is_spent(self, source: int, taken: int) -> bool:
        limit = self.limit(source, taken)
        return limit is not None and taken >= limit

    def _of_rows(self, shares: Sequence[Fraction]) -> list[Fraction]:
        if self._lengths is None:
            return list(shares)
        return [share / length for share, length in zip(shares, self._lengths, strict=True)]

    def _bounds(self, kind: str, given: Mapping[str, float], default: float) -> list[Fraction]:
        for name, value in given.items():
            if name not in self._names:
                raise RecipeError(
                    f"Mixture: a {kind} for `{name}`, but no source is called that",
                    f"Sources: {', '.join(self._names)}.",
                )
            if not isfinite(value) or not 0 <= value <= 1:
                raise RecipeError(f"Mixture: the {kind} of `{name}` is {value}", "It is a share, from 0 to 1.")
        return [Fraction(given.get(name, default)) for name in self._names]

    def _check(self) -> None:
        slack = Fraction(1, TOTAL)  # of decimal fractions that are meant to add up to 1
        for name, floor, ceiling in zip(self._names, self._floors, self._ceilings, strict=True):
            if floor > ceiling:
                raise RecipeError(
                    f"Mixture: the floor of `{name}` is above its ceiling ({float(floor)} > {float(ceiling)})",
                    "Lower the floor or raise the ceiling.",
                )
        if sum(self._floors) > 1 + slack:
            raise RecipeError(
                f"Mixture: the floors add up to {float(sum(self._floors)):g}, more than all rows",
                "Floors are shares; together at most 1.",
            )
        if sum(self._ceilings) < 1 - slack:
            raise RecipeError(
                f"Mixture: the ceilings add up to {float(sum(self._ceilings)):g}, less than all rows",
                "Ceilings are shares; together at least 1.",
            )


def epochs_of(given: float | Mapping[str, float] | None, names: Sequence[str]) -> MaxEpochs:
    """How often each source may be read, checked."""
    if given is None or isinstance(given, int | float):
        found: MaxEpochs = (given,) * len(names)
    elif not isinstance(given, Mapping):
        raise RecipeError(f"Mixture: `max_epochs` is {given!r}", "It is a number, or one for each source, or None.")
    else:
        if unknown := [name for name in given if name not in names]:
            raise RecipeError(
                f"Mixture: `max_epochs` names `{unknown[0]}`, but no source is called that",
                f"Sources: {', '.join(names)}.",
            )
        found = tuple(given.get(name) for name in names)
    for name, most in zip(names, found, strict=True):
        if most is not None and not (isfinite(most) and most > 0):
            raise RecipeError(
                f"Mixture: `max_epochs` of `{name}` is {most}",
                "It is a number above 0, or None for any number of times.",
            )
    return found


def _within(
    weights: Sequence[Fraction], floors: Sequence[Fraction], ceilings: Sequence[Fraction]
) -> list[Fraction] | None:
    """Shares in proportion to `weights` where neither a floor nor a ceiling stands against it; None if there are none.

    Whatever is on the wrong side of its bound is put onto it, on that side first where more is missing, and the rest
    is divided anew: the final shares do not depend on the order of the sources.
    """
    fixed = {number: floors[number] for number, weight in enumerate(weights) if weight == 0}
    while free := [number for number in range(len(weights)) if number not in fixed]:
        rest = max(1 - sum(fixed.values()), Fraction(0))
        whole = sum(weights[number] for number in free)
        found = {number: weights[number] / whole * rest for number in free}
        above = {number: ceilings[number] for number in free if found[number] > ceilings[number]}
        below = {number: floors[number] for number in free if found[number] < floors[number]}
        if not above and not below:
            return [(fixed | found)[number] for number in range(len(weights))]
        too_much = sum(found[number] - bound for number, bound in above.items())
        too_little = sum(bound - found[number] for number, bound in below.items())
        fixed |= above if too_much >= too_little else below
    slack = Fraction(len(weights), TOTAL)  # of decimal fractions that are meant to add up to 1
    return [fixed[number] for number in range(len(weights))] if 1 - sum(fixed.values()) <= slack else None
