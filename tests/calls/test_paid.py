"""Money for replies that are not kept, as another one came first."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stillhouse.calls.cache import CallCache, Entry
from stillhouse.calls.reply import Usage
from stillhouse.core.events import Bus


def test_what_is_paid_for_and_not_kept_counts_in_what_was_spent(tmp_path: Path) -> None:
    cache = CallCache(tmp_path, bus=Bus())
    first, second = (
        Entry(b"k" * 16, "openai.chat", wire, b"{}", 1.0, "teacher", "a step", Usage(10, 20), 0.25)
        for wire in (b"one", b"another")
    )
    cache.paid([second])
    assert asyncio.run(cache.put([first])) == {}
    assert cache.look_up([first.key]) == {first.key: ("openai.chat", b"one")}
    assert (len(cache), cache.spent_usd(step="a step")) == (1, 0.5)
    cache.close()
