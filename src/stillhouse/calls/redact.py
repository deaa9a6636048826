"""Taking out what should not leave with an export: addresses, telephone numbers, keys, and what a user's pattern finds.

This is a net for texts that go to somebody else, not a proof that none of them holds a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillhouse.core.errors import RecipeError

_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}$|\d{1,2}[-./]\d{1,2}[-./]\d{4}$")


def _is_phone(found: str) -> bool:
    digits = sum(letter.isdigit() for letter in found)
    return 8 <= digits <= 15 and not _DATE.match(found)


PATTERNS: Mapping[str, tuple[str, Callable[[str], bool] | None]] = {
    "email": (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", None),
    "phone": (
        r"(?<![\w.-])(?:\+\d{1,3}[ ./-]?|\(\d{2,5}\)[ ./-]?|\d{2,5}[ ./-])(?:\d[ ./-]?|\(\d\) ?){4,12}\d(?![\w-])",
        _is_phone,
    ),
    "key": (
        r"\bsk-[A-Za-z0-9_-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|"
        r"\bhf_[A-Za-z0-9]{20,}|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{30,}|\bglpat-[\w-]{16,}|"
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|(?i:\bbearer\s+)[\w.~+/-]{16,}=*|"
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
        None,
    ),
}


class Redactor:
    """Replaces what it finds by `[email]`, `[phone]`, `[key]` or, for patterns of the user, `[redacted]`.

    `names` are of `PATTERNS` or regular expressions; raises `RecipeError` for one that cannot be read.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], str, Callable[[str], bool] | None]] = []
        for name in names:
            pattern, check = PATTERNS.get(name, (name, None))
            try:
                title = name if name in PATTERNS else "redacted"
                self._rules.append((re.compile(pattern), f"[{title}]", check))
            except re.error as error:
                known = ", ".join(PATTERNS)
                raise RecipeError(
                    f"`{name}` is no regular expression: {error}", f"Known by name: {known}; all else is a pattern."
                ) from None
        self.num_found = 0

    def text(self, text: str) -> str:
        for pattern, title, check in self._rules:

            def replaced(match: re.Match[str], title: str = title, check: Any = check) -> str:
                if not match[0] or (check is not None and not check(match[0])):
                    return match[0]
                self.num_found += 1
                return title

            text = pattern.sub(replaced, text)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value with all its texts redacted, names of fields too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {self.text(name): self.value(each) for name, each in value.items()}
        return value
