"""What declaring and asking loads: a recipe can be read, and a script asked, without heavy libraries."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "torch", "pyarrow", "duckdb", "transformers", "aiohttp", "jsonschema", "json_repair")


def loaded(code: str) -> set[str]:
    """Which heavy libraries stand in `sys.modules` after `code`."""
    report = f"\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True, timeout=60)
    return set(eval(done.stdout.splitlines()[-1]))  # noqa: S307


def test_declaring_who_is_asked_loads_nothing_heavy() -> None:
    assert loaded("from stillhouse.calls.ask import Ask; Ask(model='openai/gpt-4o-mini').structure") == set()


def test_asking_a_function_loads_no_http_client() -> None:
    code = """
import asyncio, tempfile
from pathlib import Path
from stillhouse.calls.ask import Ask
from stillhouse.calls.service import CallService
from stillhouse.core.events import Bus
from stillhouse.calls.providers.scripted import script

async def main():
    script("light")
    service = CallService(Path(tempfile.mkdtemp()), bus=Bus())
    print((await service.ask(Ask(model="scripted:light"), "hello")).text)
    await service.aclose()

asyncio.run(main())
"""
    assert loaded(code) == set()
