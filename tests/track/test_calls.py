"""The views over the call cache: calls, attempts and what was spent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stillhouse.calls.ask import Ask
from stillhouse.calls.cache import CallCache, Entry, Trouble
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.reply import Usage
from stillhouse.core.events import Bus
from stillhouse.core.session import Session
from stillhouse.track.query import query


def fill(folder: Path) -> None:
    cache = CallCache(folder / "calls-v1", bus=Bus())
    usage = Usage(10, 5, 2, 1)

    async def work() -> None:
        request = b'{"messages":[{"content":"hello"}]}'
        for number in range(4):
            key, step = number.to_bytes(16), "s" if number < 3 else ""
            await cache.put([Entry(key, "text", b"hi", request, 0.5, "m", step, usage, 0.25, batch=number == 0)])
        cache.note([Trouble((9).to_bytes(16), "m", "s", "throttled", "slow down", 0.1)])

    asyncio.run(work())
    cache.close()


def test_calls_tell_model_tokens_and_money_and_attempts_the_failed_ones_too(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "artifacts-v1").mkdir()
    sums = query(tmp_path, "SELECT model, made_for, batch, count(*) AS n, sum(cost_usd) AS usd FROM calls GROUP BY ALL")
    assert sorted(map(tuple, (row.values() for row in sums.to_pylist()))) == [
        ("m", "", False, 1, 0.25),
        ("m", "s", False, 2, 0.5),
        ("m", "s", True, 1, 0.25),
    ]
    outcomes = query(tmp_path, "SELECT outcome, message, count(*) AS n FROM attempts GROUP BY ALL ORDER BY outcome")
    assert outcomes.to_pylist() == [
        {"outcome": "ok", "message": None, "n": 4},
        {"outcome": "throttled", "message": "slow down", "n": 1},
    ]
    spent = query(tmp_path, "SELECT sum(cost_usd) AS usd, sum(calls) AS n, sum(cached_tokens) AS cached FROM spending")
    assert spent.to_pylist() == [{"usd": 1.0, "n": 4, "cached": 8}]


def test_texts_are_read_where_a_query_may_show_them(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "artifacts-v1").mkdir()
    assert query(tmp_path, "SELECT * FROM calls").to_pylist()[0]["reply"] == "hi"
    assert query(tmp_path, "SELECT reply FROM calls LIMIT 1").to_pylist() == [{"reply": "hi"}]
    assert query(tmp_path, "FROM calls SELECT count(*) AS n").to_pylist() == [{"n": 4}]
    names = [row["column_name"] for row in query(tmp_path, "DESCRIBE calls").to_pylist()]
    assert {"key", "request", "reply", "cost_usd"} <= set(names)


def test_a_session_writes_down_who_asked(tmp_path: Path) -> None:
    script("teacher")
    with Session(tmp_path, track=False) as session:
        session.wait_for(session.calls_for("thestep").ask(Ask(model="scripted:teacher"), "hello"))
    found = query(tmp_path, "SELECT model, made_for, cost_usd FROM calls").to_pylist()
    assert found == [{"model": "scripted:teacher", "made_for": "thestep", "cost_usd": 0.0}]
