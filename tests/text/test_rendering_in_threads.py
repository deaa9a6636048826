"""Independent branches of a recipe render at the same time; none may get another's spans."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stillhouse.text.chat import ChatRenderer, Rendered
from stillhouse.text.tokenizer import load_tokenizer
from tests.models.tiny import conversation, tiny_tokenizer


def test_threads_that_render_at_once_get_their_own_spans(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path)
    batches = [[conversation(number) for number in range(first, first + 150)] for first in range(0, 1200, 150)]

    def rendered(batch: list[list[dict[str, str]]]) -> list[list[float]]:
        found = ChatRenderer(load_tokenizer(folder)).render_many(batch)
        return [row.weights for row in found if isinstance(row, Rendered)]

    expected = [rendered(batch) for batch in batches]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(rendered, batches))
    finally:
        sys.setswitchinterval(interval)
    assert found == expected
