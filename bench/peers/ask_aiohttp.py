"""No engine, but what cannot be left out: digest a request, look for it in a log, else post it and append the reply."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import orjson
from _peer import Task, finish, task

TOGETHER = 64
"""Replies written at once."""


def kept(log: Path) -> dict[str, Any]:
    """The replies of a run before."""
    if not log.exists():
        return {}
    with log.open("rb") as lines:
        return {entry["key"]: entry["reply"] for entry in map(orjson.loads, lines)}


async def ask(given: Task, known: dict[str, Any], file: BinaryIO) -> list[str]:
    replies, waiting, held = [""] * len(given.prompts), iter(enumerate(given.prompts)), list[bytes]()
    url, headers = f"{given.url}/chat/completions", {"Content-Type": "application/json", "Authorization": "Bearer x"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=given.width)) as session:

        async def work() -> None:
            for number, prompt in waiting:
                request = {
                    "model": "gpt-4o-mini",
                    "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": 256,
                }
                body = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
                key = blake2b(body, digest_size=16).hexdigest()
                if (reply := known.get(key)) is None:
                    async with session.post(url, data=body, headers=headers) as response:
                        reply = orjson.loads(await response.read())
                    held.append(orjson.dumps({"key": key, "request": request, "reply": reply}) + b"\n")
                    if len(held) >= TOGETHER:
                        file.write(b"".join(held))
                        held.clear()
                replies[number] = reply["choices"][0]["message"]["content"]

        await asyncio.gather(*(work() for _ in range(given.width)))
    file.write(b"".join(held))
    return replies


given = task()
log = Path(f"{given.folder}.log")
known = kept(log)
with log.open("ab", buffering=0) as file:
    replies = asyncio.run(ask(given, known, file))
finish(given, replies, "aiohttp")
