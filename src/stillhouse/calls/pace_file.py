"""What the processes of a session folder share about one endpoint: its limits, and who may use how much of them.

A small JSON file under a lock file. Nothing in it is worth keeping: a process that finds it torn begins anew, and what
a process that was killed had taken comes back when it is no longer seen.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .limits import KINDS, Bucket, Kind

SEEN_SECONDS = 5.0
"""A process that has not been seen for so long is gone."""
_LEARNT_SECONDS = 600.0
"""What was learnt about an endpoint that nobody asked since is no longer believed."""


@dataclass(slots=True)
class Member:
    """A process at work: calls that it may have in flight, calls that it has or would have, and when it was seen."""

    granted: int
    wants: int
    seen: float


class Sighting(NamedTuple):
    """What a process had last written of itself, and since when (by our clock) it stands there."""

    stirred: float
    at: float


@dataclass(slots=True)
class Shared:
    """The state; times are those of the day, in seconds."""

    width: float | None = None
    """Calls at once that the endpoint was found to take; None while nothing is known."""
    opens_at: float = 0.0
    buckets: dict[Kind, Bucket] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    at: float = 0.0
    sightings: dict[str, Sighting] = field(default_factory=dict)
    """What this process has seen of the others; it is not written down."""

    def leave_out_gone(self, now: float) -> None:
        """Forget the processes that are no more, and old lessons when nobody is left.

        One is gone that did not stir for a while by our clock: its own may be ahead or behind.
        """
        met = self.sightings
        for name, member in list(self.members.items()):
            known = met.get(name)
            if known is None or known.stirred != member.seen or now < known.at:
                known = met[name] = Sighting(member.seen, now)
            if now - known.at > SEEN_SECONDS or now - member.seen > _LEARNT_SECONDS or not _lives(name):
                del self.members[name]
        for name in met.keys() - self.members.keys():
            del met[name]
        if not self.members and now - self.at > _LEARNT_SECONDS:
            self.width = None
            self.buckets.clear()

    def as_json(self) -> bytes:
        value = {
            "width": self.width,
            "opens_at": self.opens_at,
            "at": self.at,
            "buckets": {kind: [each.rate, each.size, each.level, each.at] for kind, each in self.buckets.items()},
            "members": {name: [each.granted, each.wants, each.seen] for name, each in self.members.items()},
        }
        return json.dumps(value).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Shared:
        """The state; a new one where the text is none."""
        try:
            value: dict[str, Any] = json.loads(text)
            return cls(
                None if value["width"] is None else float(value["width"]),
                float(value["opens_at"]),
                {kind: Bucket(*map(float, value["buckets"][kind])) for kind in KINDS if kind in value["buckets"]},
                {name: Member(int(each[0]), int(each[1]), float(each[2])) for name, each in value["members"].items()},
                float(value["at"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


class PaceFile:
    """The file of one endpoint, opened for a moment at a time.

    Where it cannot be had (no room, no locks, another process that was stopped while it held it for `busy_seconds`),
    this process goes by itself: sharing is worth less than going on.
    """

    def __init__(self, path: Path, busy_seconds: float = SEEN_SECONDS) -> None:
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = FileLock(path.with_suffix(".lock"))
        self._busy_seconds = busy_seconds
        self._busy_since: float | None = None
        self._alone = Shared()
        self._sightings: dict[str, Sighting] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Shared | None]:
        """The state, written back at the end; None while another process has it."""
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            now = time.monotonic()
            self._busy_since = self._busy_since or now
            yield None if now - self._busy_since < self._busy_seconds else self._alone
            return
        except (OSError, NotImplementedError):
            yield self._alone
            return
        self._busy_since = None
        try:
            try:
                state = Shared.from_json(self._path.read_bytes())
            except OSError:
                state = Shared()
            state.sightings = self._sightings
            yield state
            with contextlib.suppress(OSError):
                self._path.write_bytes(state.as_json())
        finally:
            self._lock.release()


def own_name() -> str:
    """A name for this process that says where it lives."""
    return f"{_place()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@functools.cache
def _place() -> str:
    """Where numbers of processes mean the same: this machine since it was started, or one container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text()[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "/".join(parts)


def _lives(name: str) -> bool:
    """Whether a process may still live; only of those of this place it can be said at once."""
    place, process = name.rsplit(":", 2)[:2] if name.count(":") >= 2 else ("", "")
    if os.name != "posix" or place != _place():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True
    return True
