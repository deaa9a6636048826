"""DataDreamer: a source and a prompt step in a session of its folder, in batches of the number of calls in flight."""

from __future__ import annotations

import os

from _peer import finish, task

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

from datadreamer import DataDreamer
from datadreamer.llms import OpenAI
from datadreamer.steps import DataSource, Prompt

if __name__ == "__main__":
    given = task()
    with DataDreamer(str(given.folder)):
        model = OpenAI(model_name="gpt-4o-mini", base_url=given.url, api_key="x")
        rows = DataSource("rows", data=[{"text": prompt} for prompt in given.prompts])
        step = Prompt(
            "replies",
            inputs={"prompts": rows.output["text"]},
            args={"llm": model, "batch_size": given.width, "max_new_tokens": 256},
        )
        replies = list(step.output["generations"])
    finish(given, replies, "datadreamer.dev")
