"""Exit codes."""

DONE = 0
FAILED = 1
USAGE = 2
INCOMPLETE = 3
"""Finished, but rows failed or a gate was not passed."""
WAITING = 4
"""What was asked for is in batch jobs of a provider; the same command collects it later."""
INTERRUPTED = 130
