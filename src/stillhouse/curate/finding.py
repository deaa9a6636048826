"""What a check of a text found."""

from typing import Any, NamedTuple, Protocol, runtime_checkable


class Finding(NamedTuple):
    """Why a text is not wanted: a short reason, the same for many rows, and what was measured or seen."""

    reason: str
    detail: str | None = None

    def __str__(self) -> str:
        return self.reason if self.detail is None else f"{self.reason} ({self.detail})"


@runtime_checkable
class TextCheck(Protocol):
    """A part that looks at a text; None where it has nothing against it."""

    def check(self, text: str) -> Finding | None: ...


def plain_text(value: Any) -> str:
    """A cell as the text that people read: the contents of a conversation a line each, a missing value as nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        parts = [one.get("content") if isinstance(one, dict) else one for one in value]
        return "\n".join(plain_text(part) for part in parts)
    return str(value)
