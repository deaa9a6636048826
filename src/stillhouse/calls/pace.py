"""How fast an endpoint may be asked: calls at once, requests and tokens a minute, pauses; declared or learnt.

One `Pace` for an endpoint and model, shared by all steps of a session, and through a file by all processes of its
folder. Between two looks into that file a process lives on what it took from it: so many calls at once, and so many
requests and tokens as it will need for a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .limits import KINDS, Bucket, Kind, Told, has_limits, told_limits
from .pace_file import Member, PaceFile, Shared, own_name
from .reply import Usage

CUT = 0.75
"""What is left of the width after a burst of refusals."""
GROWS_AFTER = 25
"""Replies after which one call more is tried, up to the declared width."""
_BLOCK_SECONDS = 0.25
_TICK_SECONDS = 0.5
_SHARED_TICK_SECONDS = 0.2
_CHARACTERS_PER_TOKEN = 4.0
_REPLY_TOKENS = 300.0
_MINUTE_SLOTS = 12

_NOTHING: dict[Kind, float] = {}


class Size(NamedTuple):
    """How much a call may come to, as far as one knows beforehand."""

    characters: int
    max_tokens: int | None = None


class Turn:
    """Leave to make one call: taken from a pace before it, given back after it."""

    __slots__ = ("at", "needs", "pace", "sent")

    def __init__(self, pace: Pace, needs: dict[Kind, float], at: float, sent: dict[Kind, float] | None) -> None:
        self.pace = pace
        self.needs = needs
        self.at = at
        self.sent = sent
        """What had been sent in all when this call went out: what a server says in its reply it knew then."""


class Pace:
    """The limits of one endpoint. Lives on one event loop; `on_room` of each gate is called when there is room again.

    `width`: calls at once, at most. `rpm`, `tpm`: requests and tokens a minute, where the user declares them. `alone`:
    seconds that a first call has to itself, as it may find that nobody lets us in; 0 where there is nobody to ask.
    `probe`: the same of a call to an endpoint that did not answer the last one.
    """

    def __init__(
        self,
        width: int,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        alone: float = 0.0,
        probe: float = 15.0,
        file: PaceFile | None = None,
        tell: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.declared = width
        self.in_flight = 0
        self.peak = 0
        self.shut = False
        """Nobody is let in while a refusal is confirmed."""
        self.trial = alone > 0
        """One call at a time, until one is answered: at the beginning, and when nobody answered the last."""
        self.silent_since: float | None = None
        """Since when nobody answers."""
        self.streak = 0
        """Pauses that no reply came between."""
        self.answered = False
        self._alone, self._probe = alone, probe
        self._file = file
        self._tell = tell
        self._clock = clock
        self._name = own_name() if file is not None else "own"
        self._own = Shared()
        self._width: float = width
        self._granted = width
        self._cut_at = 0.0
        self._successes = 0
        self._gained = 0
        self._cut_to: float | None = None
        self._opens_at = 0.0
        self._declared_limits: dict[Kind, float] = {}
        self._limited = False
        self.limit(rpm, tpm)
        self._held: dict[Kind, float] = {}
        self._pot: dict[Kind, Bucket] = {}
        self._told: dict[Kind, tuple[Told, float, dict[Kind, float]]] = {}
        self._told_at = 0.0
        self._sent: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
        self._next_look = self._next_share = 0.0
        self._registered = False
        self._others = False
        self.others_at = 0.0
        """When other processes were last seen to ask here as well, by the monotonic clock."""
        self._rooms: list[Callable[[], None]] = []
        self._counts: list[Callable[[], int]] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._trial_timer: asyncio.TimerHandle | None = None
        self._ratio = _CHARACTERS_PER_TOKEN
        self._reply = _REPLY_TOKENS
        self._replies = 0
        self.latency = 0.0
        """Seconds of a reply, the latest counting most; 0 while none came."""
        self._minute: deque[list[float]] = deque(maxlen=_MINUTE_SLOTS + 1)

    # asking

    def limit(self, rpm: float | None, tpm: float | None) -> None:
        """Requests and tokens a minute as one more deployment declares them: of several the least counts."""
        declared: tuple[tuple[Kind, float | None], ...] = (("requests", rpm), ("tokens", tpm))
        for kind, most in declared:
            if most is not None:
                self._declared_limits[kind] = min(most, self._declared_limits.get(kind, math.inf))
                self._limited = True

    def watch(self, on_room: Callable[[], None], waiting: Callable[[], int]) -> None:
        """`on_room` is called when there may be room; `waiting()` says how many would like it."""
        self._rooms.append(on_room)
        self._counts.append(waiting)

    def seconds(self, size: Size) -> float:
        """0 when a call may go now; else the seconds after which to ask again, `inf` for when a call comes back."""
        if self.shut:
            return math.inf
        if self.in_flight >= self._room:
            now = self._clock()
            if self.trial or self._granted >= int(self._width) or now < self._next_share:
                self._keep_ticking()
                return math.inf
            self._next_share = now + _SHARED_TICK_SECONDS  # the others may have let go of some
            self._look(self._needs(size))
            if self.in_flight >= self._room:
                self._keep_ticking()
                return math.inf
        return self._until_allowed(size)

    @property
    def _room(self) -> int:
        """Calls that we may have in flight."""
        return min(1, self._granted) if self.trial else self._granted

    def _until_allowed(self, size: Size) -> float:
        if not self._registered and (self._limited or self._file is not None):
            if not self._look(self._needs(size)):  # another process has the file just now
                return max(self._next_look - self._clock(), 0.001)
            if self.in_flight >= self._room:
                self._keep_ticking()
                return math.inf
        now = self._clock()
        if self._opens_at > now:
            return self._opens_at - now
        if not self._limited:
            return 0.0
        needs = self._needs(size)
        if self._covered(needs):
            return 0.0
        if now < self._next_look:
            return self._next_look - now
        self._look(needs)
        return 0.0 if self._covered(needs) else max(self._next_look - self._clock(), 0.001)

    def take(self, size: Size) -> Turn:
        """Begin a call; `seconds` has just said 0."""
        self.in_flight += 1
        if self.in_flight > self.peak:
            self.peak = self.in_flight
        if self.trial:
            seconds = self._alone if self.silent_since is None else self._probe
            self._trial_timer = asyncio.get_running_loop().call_later(seconds, self._open)
        self._keep_ticking()
        now = self._clock()
        self._count(now, 1.0, 0.0)
        if not self._limited:
            return Turn(self, _NOTHING, now, None)
        needs = self._needs(size)
        for kind, amount in needs.items():
            if kind in self._held:
                self._held[kind] -= amount
            self._sent[kind] += amount
        return Turn(self, needs, now, dict(self._sent))

    def give_back(self, turn: Turn) -> None:
        """The call of `turn` is over."""
        self.in_flight -= 1
        self._wake()

    def waiting(self) -> int:
        """Calls that would be made if they were let in."""
        return sum(count() for count in self._counts)

    def _wake(self) -> None:
        for on_room in self._rooms:
            on_room()

    # what calls come to

    def heard(self, headers: Mapping[str, str], turn: Turn) -> None:
        """Look at the headers of any response: some tell of limits."""
        now = self._clock()
        if now - self._told_at < 0.1 or not has_limits(headers):
            return
        self._told_at = now
        found = told_limits(headers, now)
        for kind, told in found.items():
            # Most servers count when a request comes in, some when they answer: of the time between, what refills in
            # it is believed but for a part that a limit of a minute does not miss.
            doubted = min(1.0, 0.5 * told.size / told.rate)
            at = min(now, turn.at + doubted)
            self._told[kind] = (told, at, turn.sent if turn.sent is not None else dict(self._sent))
        if found and not self._limited:
            self._limited = True
            self._look(_NOTHING)

    def succeeded(self, turn: Turn, usage: Usage, size: Size, seconds: float) -> None:
        """A call was answered with a reply."""
        if not self.answered or self.trial or self.streak or self.silent_since is not None:
            self.alive()
            self.streak = 0
        self.latency = seconds if not self.latency else 0.9 * self.latency + 0.1 * seconds
        if self._width < self.declared:
            self._successes += 1
            if self._successes >= GROWS_AFTER:
                self._successes = 0
                self._gained += 1
                self._width = min(self.declared, self._width + 1)
                if not self._others:
                    self._granted = max(1, int(self._width))
        if usage.prompt_tokens or usage.reply_tokens:
            self._learn(turn, usage, size)

    def _learn(self, turn: Turn, usage: Usage, size: Size) -> None:
        self._replies += 1
        share = max(0.02, 1 / self._replies)
        if usage.prompt_tokens:
            self._ratio += share * (size.characters / usage.prompt_tokens - self._ratio)
        self._reply += share * (usage.reply_tokens - self._reply)
        self._count(self._clock(), 0.0, usage.prompt_tokens + usage.reply_tokens)
        if turn.needs:
            came_to = _needs_of(usage.prompt_tokens, usage.reply_tokens)
            for kind in self._held:
                if kind != "requests":
                    self._held[kind] += turn.needs.get(kind, 0.0) - came_to[kind]

    def failed(self, turn: Turn) -> None:
        """A call came to nothing and used none of the tokens that were put by for it."""
        for kind, amount in turn.needs.items():
            if kind != "requests" and kind in self._held:
                self._held[kind] += amount

    def alive(self) -> None:
        """Somebody answered, whatever it was: all may go."""
        self.answered = True
        self.silent_since = None
        if self.trial:
            self._open()

    def _open(self) -> None:
        self.trial = False
        if self._trial_timer is not None:
            self._trial_timer.cancel()
            self._trial_timer = None
        self._wake()

    def unanswered(self, wait: float) -> None:
        """Nobody is there: after `wait` seconds one call tries again, and the others wait for what becomes of it."""
        now = self._clock()
        if self.silent_since is None:
            self.silent_since = now
        if self._trial_timer is not None:
            self._trial_timer.cancel()
            self._trial_timer = None
        if not self.trial or self._opens_at <= now:
            self.streak += 1
        self.trial = True
        self._pause_until(now + wait)

    def throttled(self, turn: Turn, wait: float) -> None:
        """The endpoint takes no more just now: nobody asks for `wait` seconds, and of a burst the first narrows it."""
        now = self._clock()
        if turn.at >= self._cut_at:
            self.streak += 1
            self._cut_at = now
            if not self.trial:  # one call alone says nothing of how many are too many
                self._narrow()
        self._pause_until(now + wait)
        if self._file is not None:
            self._look(_NOTHING)  # the others should know at once

    def _narrow(self) -> None:
        # What is in flight was too much, however wide it was allowed; but where few are, it may be for other reasons.
        in_use = self._width - max(0, self._granted - self.in_flight)
        self._successes = 0
        self._width = max(1.0, CUT * max(in_use, self._width / 2))
        self._cut_to = self._width
        self._granted = max(1, min(self._granted, int(self._width)))

    def pause(self, wait: float) -> None:
        """Nobody asks for `wait` seconds; of several pauses the longest counts."""
        self._pause_until(self._clock() + wait)

    def _pause_until(self, until: float) -> None:
        if until > self._opens_at:
            self._opens_at = until
            self._publish()

    # limits on requests and tokens

    def _needs(self, size: Size) -> dict[Kind, float]:
        if not self._limited:
            return _NOTHING
        reply = self._reply if self._replies or size.max_tokens is None else min(self._reply, size.max_tokens)
        return _needs_of(size.characters / max(self._ratio, 0.1), reply)

    def _covered(self, needs: Mapping[Kind, float]) -> bool:
        held = self._held
        for kind, amount in needs.items():
            if kind in held:
                bucket = self._pot.get(kind)
                if held[kind] < (amount if bucket is None else min(amount, bucket.size)):
                    return False
        return True

    def _look(self, needs: Mapping[Kind, float]) -> bool:
        """Exchange what is known with the other processes and take what is needed next; False where that must wait."""
        if self._file is None:
            self._exchange(self._own, needs)
            return True
        with self._file.opened() as shared:
            if shared is None:
                self._next_look = self._clock() + 0.02 + 0.03 * random.random()
                return False
            self._exchange(shared, needs)
            return True

    def _exchange(self, shared: Shared, needs: Mapping[Kind, float]) -> None:
        now = self._clock()
        mine = shared.members.pop(self._name, None)
        shared.leave_out_gone(now)
        self._others = bool(shared.members)
        if self._others:
            self.others_at = time.monotonic()
        wants = max(1, self.in_flight + self.waiting())
        self._share_width(shared, wants, now)
        shared.opens_at = self._opens_at = max(self._opens_at, min(shared.opens_at, now + 86_400))
        weight = wants / (wants + sum(each.wants for each in shared.members.values()))
        if mine is None and self._registered:
            self._held = dict.fromkeys(self._held, 0.0)  # it was taken back from us, as from one who is gone
        self._share_limits(shared, needs, weight, now)
        shared.members[self._name] = Member(max(self._granted, self.in_flight), wants, now)
        shared.at = now
        self._registered = True

    def _share_width(self, shared: Shared, wants: int, now: float) -> None:
        """How many calls at once are ours: a share by what each process would use, once the others let go of theirs."""
        if self._cut_to is not None:
            shared.width = self._cut_to if shared.width is None else min(shared.width, self._cut_to)
            self._cut_to = None
        elif shared.width is not None:
            shared.width += self._gained
        self._gained = 0
        if shared.width is None or shared.width >= self.declared:
            self._width = self.declared
        else:
            self._width = max(1.0, shared.width)
        width, others = int(self._width), shared.members
        if not others:
            self._granted = width
            return
        if len(others) + 1 > width:  # too few for all: they take turns, a second each
            place = sorted([*others, self._name]).index(self._name)
            target = int((place + int(now)) % (len(others) + 1) < width)
        else:
            theirs = sum(each.wants for each in others.values())
            target = max(1, width - theirs, math.ceil(width * wants / (wants + theirs)))
        self._granted = max(0, min(target, width - sum(each.granted for each in others.values())))

    def _share_limits(self, shared: Shared, needs: Mapping[Kind, float], weight: float, now: float) -> None:
        for kind, limit in self._declared_limits.items():
            wanted = Bucket.per_minute(limit, now)
            bucket = shared.buckets.setdefault(kind, wanted)
            if kind not in self._told:
                bucket.rate, bucket.size = wanted.rate, wanted.size
        for kind, bucket in shared.buckets.items():
            bucket.fill(now)
            bucket.level += self._held.get(kind, 0.0)
        self._correct(shared, weight, now)
        self._limited = bool(shared.buckets)
        self._pot = shared.buckets
        self._next_look = now
        for kind, bucket in shared.buckets.items():
            need = min(needs.get(kind, 0.0), bucket.size)
            block = max(need, bucket.rate * _BLOCK_SECONDS * weight)
            if bucket.level >= need:
                taken = min(block, bucket.level)
            else:
                # Debts stay in the pot, and the wait is for the time when the pot has what one call needs.
                taken = 0.0
                self._next_look = max(self._next_look, now + bucket.seconds_until(need))
            self._held[kind] = taken
            bucket.level -= taken

    def _correct(self, shared: Shared, weight: float, now: float) -> None:
        """Levels as the server sees them, brought up to now: it knew nothing yet of what was sent since."""
        told_now, self._told = self._told, {}
        for kind, (told, at, sent) in told_now.items():
            limit = self._declared_limits.get(kind)
            if limit is not None and limit < told.size:
                continue  # the user wants less than the server allows
            bucket = shared.buckets.get(kind)
            if bucket is None:
                bucket = shared.buckets[kind] = Bucket(told.rate, told.size, told.left, now)
            since = (self._sent[kind] - sent[kind]) / weight
            bucket.rate, bucket.size = told.rate, told.size
            bucket.level = min(told.size, told.left + told.rate * max(0.0, now - at) - since)

    # time

    def _keep_ticking(self) -> None:
        """Look again before long: the others may let go of something, and they are to see that we are here."""
        if self._ticker is None:
            seconds = _SHARED_TICK_SECONDS if self._others else _TICK_SECONDS
            self._ticker = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        if self._file is not None and (self.in_flight or self.waiting()):
            self._look(_NOTHING)
            self._next_look = self._clock()
        self._publish()
        if self.in_flight or self.waiting():
            self._keep_ticking()
            self._wake()
        else:
            self.leave()

    def leave(self) -> None:
        """Nothing is asked for now: what was taken goes back."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._trial_timer is not None:
            self._trial_timer.cancel()
            self._trial_timer = None
        if self._file is not None and self._registered:
            with self._file.opened() as shared:
                if shared is not None:
                    shared.members.pop(self._name, None)
                    for kind, bucket in shared.buckets.items():
                        bucket.fill(self._clock())
                        bucket.level = min(bucket.size, bucket.level + self._held.get(kind, 0.0))
                    self._held = dict.fromkeys(self._held, 0.0)
                    self._registered = False

    def _count(self, now: float, requests: float, tokens: float) -> None:
        slot = now // (60 / _MINUTE_SLOTS)
        if not self._minute or self._minute[-1][0] != slot:
            self._minute.append([slot, 0.0, 0.0])
        self._minute[-1][1] += requests
        self._minute[-1][2] += tokens

    def state(self) -> dict[str, Any]:
        """What a progress view shows: JSON values."""
        now = self._clock()
        first = now // (60 / _MINUTE_SLOTS) - _MINUTE_SLOTS
        recent = [slot for slot in self._minute if slot[0] > first]
        requests, tokens = self._pot.get("requests"), self._pot.get("tokens") or self._pot.get("input")
        return {
            "in_flight": self.in_flight,
            "width": self._room,
            "most": self.declared,
            "waiting": self.waiting(),
            "rpm": round(sum(slot[1] for slot in recent)),
            "rpm_limit": None if requests is None else round(60 * requests.rate),
            "tpm": round(sum(slot[2] for slot in recent)),
            "tpm_limit": None if tokens is None else round(60 * tokens.rate),
            "paused_until": self._opens_at if self._opens_at > now else None,
            "down": self.silent_since is not None,
        }

    def _publish(self) -> None:
        if self._tell is not None:
            self._tell(self.state())

    @property
    def load(self) -> float:
        """For choosing between endpoints: about how long the next call takes, the longer the fuller it is."""
        return (self.in_flight + 1) / max(1, self._granted) * (self.latency or 0.001)

    @property
    def silent_seconds(self) -> float:
        """How long nobody has answered here."""
        return 0.0 if self.silent_since is None else self._clock() - self.silent_since

    def begin_again(self) -> None:
        """It is another run: the first call goes alone once more."""
        self.answered = False
        self.silent_since = None
        self.trial = self._alone > 0

    @contextlib.contextmanager
    def to_itself(self) -> Iterator[None]:
        """Nobody else is let in meanwhile."""
        self.shut = True
        try:
            yield
        finally:
            self.shut = False
            self._wake()


def _needs_of(prompt_tokens: float, reply_tokens: float) -> dict[Kind, float]:
    return {
        "requests": 1.0,
        "tokens": prompt_tokens + reply_tokens,
        "input": prompt_tokens,
        "output": reply_tokens,
    }
