"""The report page in a real browser, at the width of a phone.

Needs Debian's `chromium`. Where it is missing these tests are skipped, but not in continuous integration (`CI` set).
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.artifact import Model
from stillhouse.core.context import Context
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.evaluate.compare import Compare
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.json_fields import JsonFields
from stillhouse.measure.token_f1 import TokenF1
from stillhouse.publish.report import ReportPage
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Filter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# The page forbids scripts, so a page around it measures: it opens the report in a frame of the wanted width.
HARNESS = """<!doctype html><body style="margin:0"><script>
const found = [];
const widths = [390, 900];
function measure() {
  if (!widths.length) { document.body.textContent = "RESULT" + JSON.stringify(found) + "END"; return; }
  const width = widths.shift(), frame = document.createElement("iframe");
  frame.style.cssText = `border:0;width:${width}px;height:800px`;
  frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, outside = [], clipped = [], narrow = [];
    for (const details of page.querySelectorAll("details")) details.open = true;
    for (const element of page.querySelectorAll("main *")) {
      const box = element.getBoundingClientRect();
      if (box.right > width + 0.5 && !element.closest(".scroll")) outside.push(element.outerHTML.slice(0, 80));
      if (element.matches("svg text") && box.left < element.closest("svg").getBoundingClientRect().left - 0.5)
        clipped.push(element.textContent);
      if (element.matches("td, th") && box.width && element.textContent.length > 4 && box.width < 48)
        narrow.push(element.textContent);
    }
    found.push({width, scroll: page.documentElement.scrollWidth, outside, clipped, narrow,
      cells: page.querySelectorAll("td").length, bars: page.querySelectorAll(".track").length,
      height: page.documentElement.scrollHeight, ran: "hacked" in frame.contentWindow,
      font: parseFloat(frame.contentWindow.getComputedStyle(page.body).fontSize),
      loaded: frame.contentWindow.performance.getEntriesByType("resource").length});
    frame.remove();
    measure();
  };
  document.body.append(frame);
}
measure();
</script></body>"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("continuous integration has to install chromium: the page is checked in it")
        pytest.skip("chromium is not installed (`apt-get install chromium`)")
    folder = tmp_path_factory.mktemp("browser")
    rows = tuple({"input": f"question {n} " + "longword" * 30, "output": json.dumps({"n": n})} for n in range(20))
    evil = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>" + "x" * 300
    before = Import(data=tuple({"input": row["input"], "reply": evil} for row in rows), require=())
    after = Import(data=tuple({"input": row["input"], "reply": row["output"]} for row in rows), require=())
    test = Import(data=rows)
    metrics = (ExactMatch(normaliser="json"), JsonFields(), TokenF1())
    compared = Compare(models={"before": before, "a student with quite a long name": after}, on=test, metrics=metrics)
    with Session(folder / "store", progress=False, track=False) as session:
        funnel = {"held out": test, "none": Filter(rows=test, where=refused)}
        page = session.run(ReportPage(comparison=compared, title="A title " * 10, model=Trained(), funnel=funnel))
        shutil.copyfile(page.html, folder / "report.html")
    return look(folder)


def refused(row: Mapping[str, Any]) -> str:
    """A reason without a space in it."""
    return "because" * 30


class Trained(Step[Model], tag="test_browser.trained/1"):
    """A model folder with the series of a small learning rate."""

    def run(self, context: Context) -> None:
        lines = [{"step": step, "loss": 1.0, "learning_rate": 1.5e-4} for step in range(1, 9)]
        (context.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def look(folder: Path) -> list[dict[str, Any]]:
    """What the harness saw, for each width."""
    (folder / "harness.html").write_text(HARNESS)
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--allow-file-access-from-files",
        "--virtual-time-budget=10000",
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        (folder / "harness.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"RESULT(.*)END", done.stdout)
    assert found, done.stderr[-2000:]
    measures: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return measures


def test_nothing_reaches_over_the_edge_of_a_phone_or_a_desktop(measured: list[dict[str, Any]]) -> None:
    assert [entry["width"] for entry in measured] == [390, 900]
    for entry in measured:
        assert entry["scroll"] <= entry["width"], entry
        assert entry["outside"] == []


def test_columns_have_room_for_words_and_charts_for_their_labels(measured: list[dict[str, Any]]) -> None:
    for entry in measured:
        assert entry["cells"] > 20
        assert entry["narrow"] == []
        assert entry["clipped"] == []


def test_the_page_is_drawn_and_can_be_read(measured: list[dict[str, Any]]) -> None:
    for entry in measured:
        assert entry["bars"] == 2
        assert entry["height"] > 1000
        assert entry["font"] >= 16


def test_nothing_is_loaded_and_no_markup_of_a_model_runs(measured: list[dict[str, Any]]) -> None:
    for entry in measured:
        assert entry["loaded"] == 0
        assert entry["ran"] is False
