"""NeMo Data Designer: rows to start from and one column that a model writes; a run of before is gone on with."""

from __future__ import annotations

import os

from _peer import finish, task

given = task()
# Without the net, and without the call before the rows that tries the model, which the others do not make.
os.environ.update(NEMO_TELEMETRY_ENABLED="false", DATA_DESIGNER_SKIP_MODEL_HEALTH_CHECKS="1")
os.environ.update(DATA_DESIGNER_HOME=f"{given.folder}-home", HF_HUB_OFFLINE="1")

import data_designer.config as dd  # noqa: E402
import pandas  # noqa: E402
from data_designer.interface import DataDesigner, ResumeMode  # noqa: E402

designer = DataDesigner(
    artifact_path=given.folder,
    model_providers=[dd.ModelProvider(name="mock", endpoint=given.url, provider_type="openai", api_key="x")],
)
designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
parameters = dd.ChatCompletionInferenceParams(max_parallel_requests=given.width, max_tokens=256)
model = dd.ModelConfig(alias="teacher", model="gpt-4o-mini", provider="mock", inference_parameters=parameters)
builder = dd.DataDesignerConfigBuilder(model_configs=[model])
builder.with_seed_dataset(dd.DataFrameSeedSource(df=pandas.DataFrame({"text": given.prompts})))
builder.add_column(dd.LLMTextColumnConfig(name="reply", prompt="{{ text }}", model_alias="teacher"))
made = designer.create(
    builder, num_records=len(given.prompts), dataset_name="replies", resume=ResumeMode.IF_POSSIBLE
).load_dataset()
finish(given, made["reply"], "data-designer")
