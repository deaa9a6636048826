"""What a preview says the whole will cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.cli.preview import preview
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.calls.server import Act, MisbehavingServer

REPLY = {
    "id": "c",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 1000},
}


@pytest.mark.parametrize(("shown", "spent"), [(10, 0.4), (5, 0.2)])
def test_what_is_kept_is_not_in_the_cost_of_the_whole(tmp_path: Path, shown: int, spent: float) -> None:
    def step(new: int) -> Prompt:
        texts = [*(f"new {number}" for number in range(new)), *(f"old {number}" for number in range(100))]
        rows = Import(data=[{"n": text} for text in texts], require=("n",))
        return Prompt(rows=rows, template="{{ n }}", by=Ask(model="x/m", deployment="house", max_tokens=1000))

    with MisbehavingServer(behave=lambda call: Act(raw=json.dumps(REPLY).encode())) as server:
        house = {"house": Endpoint(server.url)}
        prices = {"house": Price(10, 30)}
        with Session(tmp_path, track=False, progress=False, endpoints=house, prices=prices) as session:
            session.run(step(0))
            whole = step(10)
            session.run(whole.rows)
            (seen,) = preview(session, whole, shown)
            before = server.num_calls
            rest = session.run(whole)
    assert seen.cost_usd == pytest.approx(spent)
    assert seen.calls_to_come == 110
    assert seen.cost_to_come == pytest.approx(0.4)
    assert server.num_calls - before == 10 - shown
    assert len(rest) == 110
