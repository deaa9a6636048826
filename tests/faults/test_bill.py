"""The bill of a step whose first attempts were cut short."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.core.errors import Interrupted
from stillhouse.core.events import Event
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.calls.server import MisbehavingServer

ROWS = Import(data=[{"n": n} for n in range(60)], require=())
PRICES = {"teacher": (1.0, 2.0)}


@pytest.mark.parametrize("same_session", [True, False])
def test_a_step_that_was_stopped_twice_has_the_bill_of_one_that_was_not(tmp_path: Path, same_session: bool) -> None:
    def bill(folder: Path, stops: tuple[int, ...]) -> dict[str, float]:
        with MisbehavingServer(latency=0.03) as server:
            by = Ask(model="openai/teacher", deployment="teacher")
            step = Prompt(rows=ROWS, by=by, template="{{ n }}?")

            def listen(event: Event) -> None:
                if stops and event.kind == "call.done" and server.num_calls >= stops[0]:
                    current.stop()

            def opened() -> Session:
                return Session(
                    folder,
                    endpoints={"teacher": server.url},
                    prices=PRICES,
                    concurrency=2,
                    options=Options(first_look=8, chunk=8),
                    on_event=listen,
                    track=False,
                    progress=False,
                )

            current = opened()
            while stops:
                with pytest.raises(Interrupted):
                    current.run(step)
                stops = stops[1:]
                if not same_session:
                    current.close()
                    current = opened()
            with current:
                found: dict[str, float] = current.run(step).record["calls"]["total"]
            assert server.num_calls == len(ROWS.data or ())
            return found

    whole = bill(tmp_path / "whole", ())
    broken = bill(tmp_path / "broken", (14, 35))
    assert whole["cost_usd"] > 0
    assert broken["cost_usd"] == pytest.approx(whole["cost_usd"])
    assert {**broken, "cost_usd": 0} == {**whole, "cost_usd": 0}
