"""The circuit breaker: stops a run whose provider fails most of what it is asked."""

from __future__ import annotations

from collections import deque

from stillhouse.core.errors import ModelError

from .retry import Patience


class Breaker:
    """Watches how the last requests of a deployment ended.

    A request that failed and then was answered counts as answered: only rows that were given up, or that the provider
    would not take, are failures.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failed: deque[bool] = deque(maxlen=patience.window)
        self._num_failed = 0

    def count(self, failed: bool) -> None:
        """One more request has ended."""
        ends = self._failed
        if len(ends) == ends.maxlen:
            self._num_failed -= ends[0]
        ends.append(failed)
        self._num_failed += failed

    def broken(self, name: str, last: str) -> ModelError | None:
        """The error to stop with, if too many of the last requests failed; `last`: the words of the latest failure."""
        ends = self._failed
        if len(ends) < self._patience.window or self._num_failed <= self._patience.max_failed * len(ends):
            return None
        return ModelError(
            f"`{name}` failed {self._num_failed} of the last {len(ends)} requests, the last with: {last}",
            "Every reply so far is kept: run the same command again when the cause is mended. "
            "`Patience(max_failed=…, window=…)` allows more.",
            kind="failing",
            retryable=True,
        )

    def reset(self) -> None:
        """Begin anew: it is another run."""
        self._failed.clear()
        self._num_failed = 0
