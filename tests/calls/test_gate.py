"""Slots: bounded, fair, and closed while a provider asks for a pause."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.gate import Gate
from stillhouse.calls.pace import Pace
from stillhouse.calls.providers.scripted import Scripted
from stillhouse.calls.source import Source


def gate_of(*widths: int) -> Gate:
    return Gate([Source(f"s{number}", Pace(width), lambda: Scripted("x")) for number, width in enumerate(widths)])


@given(limit=st.integers(1, 5), holds=st.lists(st.integers(0, 3), max_size=30), cancelled=st.sets(st.integers(0, 29)))
def test_slots_are_bounded_given_in_order_and_never_lost(limit: int, holds: list[int], cancelled: set[int]) -> None:
    begun: list[int] = []

    async def hold(gate: Gate, number: int) -> None:
        place = await gate.acquire()
        begun.append(number)
        try:
            assert gate.in_flight <= limit
            for _ in range(holds[number]):
                await asyncio.sleep(0)
        finally:
            gate.release(place)

    async def run() -> Gate:
        gate = gate_of(limit)
        tasks = [asyncio.ensure_future(hold(gate, number)) for number in range(len(holds))]
        for turn in range(3):
            await asyncio.sleep(0)
            for number in cancelled:
                if number < len(tasks) and number % 3 == turn:
                    tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate

    gate = asyncio.run(run())

    assert gate.in_flight == 0
    assert gate.sources[0].pace.peak <= limit
    assert begun == sorted(begun)
    assert {*range(len(holds))} - {*begun} <= cancelled


def test_a_pause_lets_nobody_in_until_it_is_over() -> None:
    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        gate = gate_of(2)
        started = loop.time()
        gate.sources[0].pace.pause(0.1)
        gate.sources[0].pace.pause(0.01)  # a shorter one does not shorten it
        await asyncio.gather(gate.acquire(), gate.acquire())
        return [loop.time() - started]

    assert asyncio.run(run())[0] >= 0.09
