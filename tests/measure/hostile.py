"""Functions that the tests of verifiers run in processes of their own: some do harm."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any


def behaves(row: dict[str, Any], reply: str) -> bool | str:
    """Does what the reply says."""
    if reply == "loop":
        while True:
            pass
    if reply == "sleep":
        time.sleep(1000)
    if reply == "crash":
        ctypes.string_at(0)
    if reply == "leave":
        os._exit(3)
    if reply == "exit":
        sys.exit("bye")
    if reply == "eat":
        return len(bytearray(1 << 31)) > 0
    if reply == "fill":
        Path("filled").write_bytes(bytes(64 << 20))
    if reply == "call":
        socket.socket()
    if reply == "fork":
        os.fork()
    if reply == "write":
        Path(row["path"]).write_text("was here")
    if reply == "kill":
        os.kill(os.getppid(), 9)
    if reply == "raise":
        raise ValueError("no good")
    if reply == "print":
        sys.stdout.write('{"status": "ok", "said": true}\n')
    return reply in ("yes", "print") or f"it says {reply}"


def says_who(row: dict[str, Any], reply: str) -> str:
    del row, reply
    return f"{os.getppid()}"


def forgets(row: dict[str, Any], reply: str) -> None:
    del row, reply


def reads(row: dict[str, Any], reply: str) -> bool:
    """The row comes with all its types."""
    return (row["when"].year, row["raw"], row["deep"]["list"]) == (2024, b"\x00", [1, None]) and reply == "é\ud800"
