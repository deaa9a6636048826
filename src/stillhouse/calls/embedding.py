"""Making vectors: what is kept is looked up, the rest asked in batches that are in flight together.

A text's vector has a key of its own, so it does not matter with which others it was asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from stillhouse.core.errors import EXHAUSTED, ModelError, RecipeError, RowFault

from .attempts import Attempts, heard
from .cache import Entry, Trouble
from .deployment import Deployment
from .engine import Engine, Errand
from .gate import Place
from .ledger import Ledger
from .pace import Size
from .providers.embed_protocol import EmbeddingProvider, EmbedForm, Made
from .reply import Usage
from .request import key_of
from .retry import TryAgain

Floats: TypeAlias = NDArray[np.float32]

FORM = "vector.float32"
"""The form of a kept vector: its numbers as little-endian float32, as the model gave them."""
_SLICE = 2048  # texts looked up at once
_CHARACTERS_PER_TOKEN = 3.0  # on the careful side: English has 4 to 5


class Vectors(NamedTuple):
    """What became of some texts.

    `array`: float32, one row for each text in order; a row is zeros where the text has a fault. `keys`: of the calls
    behind the rows, for `Emit(calls=…)`; empty for vectors that are computed rather than asked for. `faults`: by place.
    """

    array: Floats
    keys: list[str]
    faults: dict[int, RowFault]

    def calls(self, place: int) -> tuple[str, ...]:
        """The calls behind one row."""
        return (self.keys[place],) if self.keys else ()


class EmbedWork:
    """Texts of one form on their way to vectors, on one bill."""

    def __init__(self, engine: Engine, deployment: Deployment, form: EmbedForm, ledger: Ledger) -> None:
        self._engine = engine
        self._deployment = deployment
        self._form = form
        self._ledger = ledger
        self._before = _before(deployment.by, form)
        self._texts: dict[bytes, str] = {}
        self._found: dict[bytes, Floats] = {}
        self._faults: dict[bytes, RowFault] = {}

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """The vectors as the model gives them. A text is asked for once, however often it stands there.

        Raises `ModelError` or `BudgetError` after the calls on the wire have come home and been kept.
        """
        places: dict[bytes, list[int]] = {}
        keys: list[str] = []
        faults: dict[int, RowFault] = {}
        for place, text in enumerate(texts):
            asked = self._form.prefix + text
            try:
                key = key_of(self._canonical(asked))
            except (TypeError, orjson.JSONEncodeError) as error:
                faults[place] = RowFault("invalid", f"the text cannot be sent: {error}", repr(text)[:200])
                keys.append("")
                continue
            keys.append(key.hex())
            places.setdefault(key, []).append(place)
            self._texts[key] = asked
        await self._settle(list(places))
        for key, fault in self._faults.items():
            faults |= dict.fromkeys(places[key], fault)
        return Vectors(self._array(len(texts), places), keys, faults)

    def _array(self, length: int, places: Mapping[bytes, list[int]]) -> Floats:
        widths = {len(vector) for vector in self._found.values()}
        if len(widths) > 1:
            raise ModelError(
                f"`{self._deployment.name}` gave vectors of {' and of '.join(map(str, sorted(widths)))} numbers",
                "What answers under one name must be one model; give another a `deployment` of its own.",
            )
        array = np.zeros((length, widths.pop() if widths else 0), np.float32)
        for key, vector in self._found.items():
            for place in places[key]:
                array[place] = vector
        return array

    def _canonical(self, asked: str) -> bytes:
        return self._before + orjson.dumps(asked) + b"}"

    async def _settle(self, keys: list[bytes]) -> None:
        """A vector or a fault for each key."""
        missing: list[bytes] = []
        for start in range(0, len(keys), _SLICE):
            missing += self._kept(keys[start : start + _SLICE])
            await asyncio.sleep(0)  # a long list from the cache must not keep the loop to itself
        while missing:
            flights = self._engine.flights
            theirs = {key: flights[key] for key in missing if key in flights}
            await self._ask([key for key in missing if key not in theirs])
            for flight in set(theirs.values()):
                await asyncio.shield(flight)
            missing = self._kept(list(theirs))

    def _kept(self, keys: list[bytes]) -> list[bytes]:
        """Take up what is kept; returns the other keys."""
        missing: list[bytes] = []
        broken: list[bytes] = []
        kept = self._engine.cache.look_up(keys)
        self._engine.found.note(self._ledger.step, kept)
        for key in keys:
            found = kept.get(key)
            if found is None:
                missing.append(key)
            elif found[0] != FORM or len(found[1]) % 4:
                broken.append(key)
            else:
                self._found[key] = np.frombuffer(found[1], "<f4")
        if broken:
            self._engine.cache.reject(broken, f"not of the form `{FORM}`")
        if len(missing) + len(broken) < len(keys):
            self._ledger.entry(self._deployment.name).cached += len(keys) - len(missing) - len(broken)
        return missing + broken

    async def _ask(self, keys: list[bytes]) -> None:
        """Ask for all of `keys`, in batches."""
        if self._engine.cache_only:
            self._engine.check_may_ask(self._deployment.name, [self._canonical(self._texts[key]) for key in keys])
        errands = [self._start(batch) for batch in self._batches(keys)] if keys else []
        tasks = [errand.task for errand in errands]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [task for task in tasks if task.done() and (task.cancelled() or task.exception() is not None)]
            if failed:
                for errand in errands:
                    errand.give_up()
                await asyncio.wait(tasks)
                failed[0].result()  # raises what it failed of
        except asyncio.CancelledError:
            for errand in errands:
                errand.give_up()
            raise

    def _start(self, batch: list[bytes]) -> Errand[None]:
        flight = asyncio.get_running_loop().create_future()
        self._engine.flights.update(dict.fromkeys(batch, flight))
        errand = self._engine.start(lambda errand: self._answer(batch, errand))

        def over(task: asyncio.Task[None]) -> None:
            for key in batch:
                del self._engine.flights[key]
            flight.set_result(None)
            errand.leave(self._deployment)

        errand.task.add_done_callback(over)
        return errand

    def _batches(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """As many texts together as the provider takes, by number and by about how many tokens they have."""
        limits = self._provider.limits
        batch: list[bytes] = []
        tokens = 0.0
        for key in keys:
            more = len(self._texts[key]) / _CHARACTERS_PER_TOKEN
            if batch and (len(batch) >= limits.texts or tokens + more > limits.tokens):
                yield batch
                batch, tokens = [], 0.0
            batch.append(key)
            tokens += more
        yield batch

    @property
    def _provider(self) -> EmbeddingProvider:
        return cast(EmbeddingProvider, self._deployment.provider)

    async def _answer(self, keys: list[bytes], errand: Errand[None]) -> None:
        """Vectors for one batch. One text that is not taken must not carry the others along: it is found by halves."""
        try:
            await self._call(keys, errand)
        except RowFault as fault:
            if len(keys) == 1 or fault.kind == EXHAUSTED:
                self._faults |= dict.fromkeys(keys, fault)
                return
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                errand.check()
                await self._answer(half, errand)

    async def _call(self, keys: list[bytes], errand: Errand[None]) -> None:
        """Attempts until one succeeds."""
        size = Size(sum(len(self._texts[key]) for key in keys))
        alone = len(keys) == 1  # of several texts, one may spoil the request for the others
        attempts = Attempts(self._deployment, self._engine.patience, self._ledger, errand, for_one=alone)
        await attempts.run(size, lambda place: self._attempt(keys, place, errand))

    async def _attempt(self, keys: list[bytes], place: Place, errand: Errand[None]) -> None:
        engine, deployment, step = self._engine, self._deployment, self._ledger.step
        texts = [self._texts[key] for key in keys]
        estimate = self._estimate(texts)
        held = await engine.purse.reserve(estimate, deployment.name, step=step)
        made, cost = 0, None
        started = time.monotonic()
        try:
            provider = cast(EmbeddingProvider, place.source.provider)
            with errand.on_wire():
                answer = _checked(await heard(place, provider.embed(texts, self._form)), len(texts))
                made, cost = 1, deployment.cost(answer.usage)
                deployment.answered(answer.usage)
                self._ledger.entry(deployment.name).add_reply(answer.usage, cost)
                await self._keep(keys, answer, time.monotonic() - started)
        except (ModelError, RowFault) as error:
            took = time.monotonic() - started
            engine.cache.note([Trouble(keys[0], deployment.name, step, error.kind, error.message, took)])
            raise
        finally:
            engine.purse.settle(held, cost, made=made)

    async def _keep(self, keys: list[bytes], answer: Made, seconds: float) -> None:
        """Keep each vector with its share of the tokens and the time."""
        deployment, step = self._deployment, self._ledger.step
        tokens = _shared(answer.usage.prompt_tokens, [len(self._texts[key]) for key in keys])
        entries = []
        for key, vector, own in zip(keys, answer.array, tokens, strict=True):
            usage = Usage(own)
            asked = self._canonical(self._texts[key])
            shares = seconds / len(keys), deployment.name, step, usage, deployment.cost(usage)
            entries.append(Entry(key, FORM, vector.tobytes(), asked, *shares))
        earlier = await self._engine.cache.put(entries)
        for key, vector in zip(keys, answer.array, strict=True):
            standing = earlier.get(key)  # that of another process which was first, and which later runs will find
            if standing is not None and standing[0] == FORM:
                vector = np.frombuffer(standing[1], "<f4")
            self._found[key] = vector

    def _estimate(self, texts: Sequence[str]) -> float | None:
        price = self._deployment.price
        return None if price is None else price.cost(Usage(round(sum(map(len, texts)) / _CHARACTERS_PER_TOKEN)))


def normalised(array: Floats) -> Floats:
    """Rows brought to length 1, in float64 between; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", array, array, dtype=np.float64))
    return (array / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)


def cut(array: Floats, dimensions: int, name: str) -> Floats:
    """The first `dimensions` numbers of each row; raises `RecipeError` where there are fewer."""
    if array.shape[1] < dimensions and len(array):
        raise RecipeError(
            f"`{name}` makes vectors of {array.shape[1]} numbers, and {dimensions} dimensions are asked for",
            "Leave `dimensions` out, or give a smaller number.",
        )
    return array[:, :dimensions]


def _shared(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` in proportion to sizes, in whole numbers that add up to it."""
    whole = sum(sizes) or 1
    ends = [total * reached // whole for reached in accumulate(sizes, initial=0)]
    return [end - begin for begin, end in pairwise(ends)] if sum(sizes) else [total, *[0] * (len(sizes) - 1)]


def _before(by: object, form: EmbedForm) -> bytes:
    """The canonical request up to its text: JSON with sorted keys."""
    shape = {name: value for name, value in form.shape().items() if value is not None}
    head = orjson.dumps({"by": by, "embed": shape}, option=orjson.OPT_SORT_KEYS)
    return head[:-1] + b',"text":'


def _checked(made: Made, length: int) -> Made:
    array = np.ascontiguousarray(made.array, "<f4")
    if array.ndim != 2 or len(array) != length:
        raise TryAgain("garbled", f"{length} texts were sent and an array of the shape {array.shape} came back")
    if not np.isfinite(array).all() or array.shape[1] == 0:
        raise TryAgain("garbled", "the vectors hold what is no number, or nothing at all")
    return Made(array, made.usage)
