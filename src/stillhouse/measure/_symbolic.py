"""Formulas read and compared by math-verify; runs in a sandbox's worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from math_verify import parse, verify


def same(row: Mapping[str, Any], reply: str) -> bool | str:
    """Whether the reply comes to `row["expected"]`; the reason against where it does not."""
    expected = row["expected"]
    wanted = _read(expected) if expected else []
    if not wanted:
        return f"the expected answer {expected!r:.80} cannot be read"
    found = parse(reply, parsing_timeout=None)
    if not found:
        return "it comes to no formula"
    # The expected answer comes first: the comparison is not symmetric, `x = 3` asks for 3 and not the other way round.
    if verify(wanted, found, float_rounding=row["digits"], timeout_seconds=None):
        return True
    return f"it comes to {found[-1]!s:.200}, not {wanted[-1]!s:.200}"


def _read(expected: str) -> list[Any]:
    """An expected answer may stand without the signs that set a formula off."""
    marked = any(sign in expected for sign in ("$", "\\boxed", "\\(", "\\["))
    found: list[Any] = parse(expected if marked else f"${expected}$", parsing_timeout=None)
    return found
