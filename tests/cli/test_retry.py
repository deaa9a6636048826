"""`retry`: rows that failed are asked about again."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.cli.retry import retry_bill
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.cli.shell import SEEDS, Shell
from tests.cli.test_run import ASKING


def asked(shell: Shell) -> int:
    return len((shell.folder / "asked").read_text())


def first_run(shell: Shell) -> None:
    shell.write("asking.yaml", ASKING.replace("MODEL", '"python:steps:picky"') + "session: {concurrency: 2}\n")
    assert shell("run", "asking.yaml", "--quiet").code == 3
    assert asked(shell) == len(SEEDS) - 1


def test_a_retry_asks_about_the_rows_that_failed_alone(shell: Shell) -> None:
    first_run(shell)
    done = shell("retry", "asking", "--only", "refused", "--quiet", "--json")
    assert done.code == 0
    assert done.json["counts"] == {"in": 8, "out": 8, "dropped": 0, "failed": 0}
    assert "generate.prompt: 1 row to ask again" in done.err
    assert "generate.prompt: 1 of 1 rows mended" in done.err
    assert asked(shell) == len(SEEDS)
    again = shell("run", "asking.yaml", "--quiet", "--json")
    assert (again.code, again.json["digest"]) == (0, done.json["digest"])
    assert asked(shell) == len(SEEDS)


def test_where_no_row_failed_so_nothing_is_asked(shell: Shell) -> None:
    first_run(shell)
    done = shell("retry", "asking", "--only", "cut", "--quiet")
    assert done.code == 0
    assert "no row of `asking` failed as cut (1 failed otherwise" in done.err
    assert asked(shell) == len(SEEDS) - 1


def test_what_cannot_be_is_said(shell: Shell) -> None:
    first_run(shell)
    assert "do not fail as `cuts`" in shell("retry", "asking", "--only", "cuts").err
    assert "Did you mean `asking`?" in shell("retry", "askin").err
    assert "`max_token` is not a field" in shell("retry", "asking", "--set", "max_token=3").err
    assert shell("retry", "asking", "--set", "by.max_tokens=3").code == 2
    (shell.folder / "out" / "names" / "asking.yaml").unlink()
    assert "no recipe is kept for `asking`" in shell("retry", "asking").err
    assert shell("retry", "asking", "--recipe", "asking.yaml", "--quiet").code == 0


def test_a_retry_that_costs_money_is_confirmed(shell: Shell) -> None:
    first_run(shell)
    done = shell("retry", "asking", "--set", "model=openai/gpt-4o-mini")
    assert done.code == 2
    assert "for about 1 calls of openai/gpt-4o-mini" in done.err
    assert asked(shell) == len(SEEDS) - 1


def test_the_bill_of_a_retry_knows_what_is_changed(tmp_path: Path) -> None:
    rows = Import(data=[{"n": str(number)} for number in range(10)], require=("n",))
    step = Prompt(rows=rows, template="{{ n }}", by=Ask(model="x/m", deployment="house", max_tokens=100))
    house = {"house": Endpoint("http://127.0.0.1:9")}
    with Session(tmp_path, track=False, endpoints=house, prices={"house": Price(10, 30)}) as session:
        as_it_was = retry_bill(session, [(step, 10)], {})
        longer = retry_bill(session, [(step, 10)], {"max_tokens": 40_000})
        other = retry_bill(session, [(step, 10)], {"model": "openai/gpt-4o-mini", "max_tokens": 40_000})
        unknown = retry_bill(session, [(step, 10)], {"model": "groq/nobody-knows"})
    assert as_it_was.cost_usd is not None
    assert longer.cost_usd is not None
    assert other.cost_usd is not None
    assert as_it_was.cost_usd < 1
    assert longer.cost_usd == pytest.approx(10 * 40_000 * 30e-6, rel=0.01)
    assert 0.1 < other.cost_usd < 1
    assert other.models == ("openai/gpt-4o-mini",)
    assert unknown.cost_usd is None
