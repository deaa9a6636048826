"""Stillhouse: one `Prompt` step of a session, with tracking, lineage and cost as they are by default."""

from __future__ import annotations

from _peer import finish, task

import stillhouse as sh

given = task()
rows = sh.Import(data=[{"text": prompt} for prompt in given.prompts], require=())
step = sh.Prompt(
    rows=rows, by=sh.Ask(model="any/gpt-4o-mini", endpoint=given.url, max_tokens=256), template="{{ text }}"
)
with sh.Session(given.folder, concurrency=given.width) as session:
    finish(given, (row["reply"] for row in session.run(step)), "stillhouse")
