"""Exit codes."""

DONE = 0
FAILED = 1
USAGE = 2
INCOMPLETE = 3
"""Finished, but rows failed or a gate was not passed."""
INTERRUPTED = 130
