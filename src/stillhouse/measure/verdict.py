"""What a verifier says about one reply."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Verdict(NamedTuple):
    """`reason` says why a reply was not accepted."""

    accepted: bool
    reason: str | None = None


@runtime_checkable
class Verifier(Protocol):
    """A part that accepts or rejects one reply to an item."""

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict: ...


@runtime_checkable
class ManyVerifier(Protocol):
    """A verifier that does better when it is asked about many replies at once: one that works in other processes."""

    def many(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]: ...
