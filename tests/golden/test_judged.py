"""What each step that judges makes of a tiny table when it asks judges that always answer alike.

When one of these changes, either the change was not meant, or the number in the step's tag has to be raised; then
`python -m tests.golden.test_judged` writes `judged.json` anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

import stillhouse as sh
from tests.generate import judges

FILE = Path(__file__).with_name("judged.json")
TEXTS = sh.Import(
    data=[
        {"text": "text 3 on soup", "a": "a long answer", "b": "short", "human": 4},
        {"text": "text 5 on cars", "a": "same", "b": "size", "human": 5},
        {"text": "text 1 on pea soup", "a": "x", "b": "xx", "human": 1},
    ],
    require=(),
)
CLEAR = sh.Criterion(name="clarity", description="Is it clear?", weight=2)
DEEP = sh.Criterion(name="depth", description="Does it say why?")


def reply(messages: Any, schema: Any, sample: int) -> str:
    """Answers of several lengths; critiques are content with ten characters."""
    text = messages[0]["content"]
    if schema is not None:
        return json.dumps({"critique": "too short", "fine": "<answer>\nxxxxxxxxxx" in text})
    return "x" * (10 if "<critique>" in text else 1 + (len(text) + sample) % 3)


BY = sh.Ask(model="python:tests.golden.test_judged:reply")
STEPS: dict[str, sh.Step[sh.Rows]] = {
    step.tag: step
    for step in (
        sh.FilterWithPrompt(rows=TEXTS, by=judges.by("cooking"), template="{{ text }}"),
        sh.ScoreWithPrompt(rows=TEXTS, by=judges.by("counting"), template="{{ text }}", samples=2),
        sh.RankWithPrompt(rows=TEXTS, by=judges.by("counting"), template="{{ text }}", top=2, least=2),
        sh.JudgePairs(rows=TEXTS, by=(judges.by("longer"), judges.by("first")), instruction="{{ text }}?"),
        sh.JudgeRubric(rows=TEXTS, by=judges.by("rubric"), criteria=(CLEAR, DEEP), template="{{ text }}"),
        sh.MajorityVote(rows=TEXTS, by=BY, template="{{ text }}", samples=4, agreement=sh.Agreement(least=0.5)),
        sh.PreferencePairs(
            rows=TEXTS, by=BY, template="{{ text }}", judge=sh.PairJudge(by=judges.by("longer"), instruction="?")
        ),
        sh.Revise(rows=TEXTS, by=BY, template="{{ text }}", standard="long", column="a", rounds=2),
        sh.Verify(rows=TEXTS, where=sh.RegexVerifier(pattern="long"), column="a"),
    )
}


def made(session: sh.Session, step: sh.Step[sh.Rows]) -> dict[str, Any]:
    """All that a step made, as JSON values; of calls only how many: their keys follow the source of the functions."""
    rows = session.run(step)
    whole = {
        "rows": [
            {name: len(value) if name == "_calls" else value for name, value in row.items()}
            for batch in rows.batches(lineage=True)
            for row in batch
        ],
        "dropped": [[row["_id"], row["reason"], row["detail"]] for row in rows.dropped()],
        "failed": [[row["_id"], row["kind"], row["message"]] for row in rows.failed()],
        "facts": rows.record["facts"],
    }
    found: dict[str, Any] = json.loads(json.dumps(whole))
    return found


@pytest.mark.parametrize("tag", list(STEPS))
def test_a_step_makes_what_it_made(session: sh.Session, tag: str) -> None:
    found, known = made(session, STEPS[tag]), json.loads(FILE.read_text())[tag]
    facts, known_facts = found.pop("facts"), known.pop("facts")
    assert found == known
    assert _close(facts, known_facts), facts


def _close(found: Any, known: Any) -> bool:
    """Equal, floats but for their last digits: they come from functions whose rounding is the machine's."""
    if isinstance(known, dict):
        return set(found) == set(known) and all(_close(found[name], known[name]) for name in known)
    return bool(found == pytest.approx(known)) if isinstance(known, float) else bool(found == known)


def test_a_calibration_says_what_it_said(session: sh.Session) -> None:
    report = session.run(sh.Calibrate(rows=STEPS["generate.score_with_prompt/1"]))
    known = json.loads(FILE.read_text())["generate.calibrate/1"]
    assert _close(report.value, known)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sh.Session(folder, progress=False, track=False) as opened:
        found = {tag: made(opened, step) for tag, step in STEPS.items()}
        found["generate.calibrate/1"] = opened.run(sh.Calibrate(rows=STEPS["generate.score_with_prompt/1"])).value
        FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
