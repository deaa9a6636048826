"""Lengths of documents as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .statistics import TokenStatistics

WIDTH, ROW, TOP, LEFT, RIGHT = 720, 24, 84, 130, 90
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.dim{fill:#6b7280}.head{font-size:17px;font-weight:600}"
    ".bar{fill:#2563eb}@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.dim{fill:#9ca3af}.bar{fill:#60a5fa}}"
)


def drawn(found: TokenStatistics, title: str) -> str:
    """One bar a bin of lengths, as wide as its documents; the advice below the title."""
    most = max(one.documents for one in found.histogram)
    height = TOP + ROW * len(found.histogram) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="head" x="16" y="28">{escape(title)}</text>',
        f'<text class="dim" x="16" y="48">{found.documents:,} documents, {found.tokens:,} tokens</text>',
        f'<text class="dim" x="16" y="66">{escape(found.advice[:110])}</text>',
    ]
    for number, one in enumerate(found.histogram):
        y = TOP + ROW * number
        wide = max((WIDTH - LEFT - RIGHT) * one.documents / most, 1.0 if one.documents else 0.0)
        parts += [
            f'<text class="dim" x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{one.low:,}–{one.high:,}</text>',
            f'<rect class="bar" x="{LEFT}" y="{y}" width="{wide:.1f}" height="18"/>',
            f'<text x="{LEFT + wide + 6:.1f}" y="{y + 14}">{one.documents:,}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
