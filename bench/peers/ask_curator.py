"""Curator: a class that says how a row is asked about and read, called on the rows, with no limit a minute."""

from __future__ import annotations

import os

from _peer import finish, task

given = task()
os.environ.update(TELEMETRY_ENABLED="false", LITELLM_LOCAL_MODEL_COST_MAP="True")
os.environ.update(CURATOR_CACHE_DIR=str(given.folder), HF_HUB_OFFLINE="1")

from bespokelabs import curator  # noqa: E402


class Asked(curator.LLM):
    def prompt(self, input: dict[str, str]) -> str:
        return input["text"]

    def parse(self, input: dict[str, str], response: str) -> dict[str, str]:
        return {"text": input["text"], "reply": response}


asked = Asked(
    model_name="gpt-4o-mini",
    backend="openai",
    generation_params={"max_tokens": 256},
    backend_params={
        "base_url": given.url,
        "api_key": "x",
        "max_concurrent_requests": given.width,
        "max_requests_per_minute": 10**9,
        "max_tokens_per_minute": 10**12,
    },
)
made = asked([{"text": prompt} for prompt in given.prompts])
finish(given, made.dataset["reply"], "bespokelabs-curator")
