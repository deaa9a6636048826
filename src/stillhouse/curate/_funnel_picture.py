"""The funnel as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .funnel import Stage

WIDTH, BAR, ROW, TOP = 960, 300, 64, 56
MIDDLE = 390  # the bars lie around this line; names stand to the left of them, reasons to the right
CHARACTERS = 58  # of a reason
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.dim{fill:#6b7280}.head{font-size:17px;font-weight:600}"
    ".stay{fill:#2563eb}.in{fill:#dbe4f5}.flow{fill:#2563eb;opacity:.12}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.dim{fill:#9ca3af}.in{fill:#27344d}}"
)


def drawn(stages: Sequence[Stage], title: str) -> str:
    """One bar a stage, as wide as its rows: full what stayed, pale what came in and did not."""
    widest = max([max(stage.rows_in or 0, stage.out) for stage in stages], default=0) or 1
    heading = escape(title or "What became of the rows")
    height = TOP + ROW * len(stages) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{heading}</title><style>{STYLE}</style>",
        f'<text class="head" x="16" y="28">{heading}</text>',
    ]
    for number, stage in enumerate(stages):
        y = TOP + ROW * number
        out, came = _width(stage.out, widest), _width(max(stage.rows_in or 0, stage.out), widest)
        if number and (stages[number - 1].build_key,) == stage.reads[:1]:
            parts.append(_flow(_width(stages[number - 1].out, widest), came, y))
        parts += [
            f'<text x="16" y="{y + 15}">{escape(stage.tag.partition("/")[0])}</text>',
            f'<text class="dim" x="16" y="{y + 32}">{escape(_counts(stage))}</text>',
            f'<rect class="in" x="{MIDDLE - came / 2:.1f}" y="{y}" width="{came:.1f}" height="34" rx="3"/>',
            f'<rect class="stay" x="{MIDDLE - out / 2:.1f}" y="{y}" width="{out:.1f}" height="34" rx="3"/>',
            *(
                f'<text class="dim" x="{MIDDLE + BAR / 2 + 20:.0f}" y="{y + 13 + 17 * place}">{escape(line)}</text>'
                for place, line in enumerate(_told(stage))
            ),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _width(rows: int, widest: int) -> float:
    return max(BAR * rows / widest, 2.0 if rows else 0.0)


def _flow(above: float, below: float, y: int) -> str:
    """What joins the bar above with this one."""
    top, bottom = y - ROW + 34, y
    points = [
        (MIDDLE - above / 2, top),
        (MIDDLE + above / 2, top),
        (MIDDLE + below / 2, bottom),
        (MIDDLE - below / 2, bottom),
    ]
    return f'<polygon class="flow" points="{" ".join(f"{x:.1f},{height}" for x, height in points)}"/>'


def _counts(stage: Stage) -> str:
    told = [f"{stage.out:,} row{'s' * (stage.out != 1)}"]
    if stage.dropped:
        told.append(f"{stage.dropped:,} dropped")
    if stage.failed:
        told.append(f"{stage.failed:,} failed")
    return ", ".join(told)


def _told(stage: Stage) -> list[str]:
    """At most three lines: the commonest reasons, and how diversity changed."""
    reasons = [f"{number:,} × {reason}" for reason, number in [*stage.reasons.items(), *stage.faults.items()]]
    lines = [line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…" for line in reasons]
    before, after = (stage.before or {}).get("distinct 2"), (stage.after or {}).get("distinct 2")
    room = 3 - (before is not None and after is not None)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"and {len(lines) - room + 1} more reasons"]
    if before is not None and after is not None:
        lines.append(f"distinct pairs of words {before:.3f} → {after:.3f}")
    return lines
