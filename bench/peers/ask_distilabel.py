"""Distilabel: a pipeline of two steps, in batches as large as the number of calls in flight."""

from __future__ import annotations

import os

from _peer import finish, task

os.environ.update(HF_HUB_OFFLINE="1", DISTILABEL_LOG_LEVEL="WARNING")

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":  # its steps are processes of their own
    given = task()
    with Pipeline(name="replies", cache_dir=given.folder) as pipeline:
        rows = LoadDataFromDicts(data=[{"instruction": text} for text in given.prompts], batch_size=given.width)
        model = OpenAILLM(
            model="gpt-4o-mini", base_url=given.url, api_key="x", generation_kwargs={"max_new_tokens": 256}
        )
        rows >> TextGeneration(llm=model, input_batch_size=given.width)
    made = pipeline.run(use_cache=True)
    finish(given, made["default"]["train"]["generation"], "distilabel")
