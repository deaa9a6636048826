"""A dozen examples in, a small measured model out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ..calls.ask import Ask
from ..core.artifact import Artifact, Model
from ..core.errors import ModelError, RecipeError, StoreError
from ..core.events import Listener
from ..core.names import checked_name
from ..core.options import Options
from ..core.session import Session
from ..core.store import write_json
from ..evaluate.predict import Predict
from ..publish.folder import link_folder
from .deliver import Deliver
from .distillation import END_OF_THINKING, Distillation, Examples, Student, Thinking, Verify, distillation
from .file import recipe_table

if TYPE_CHECKING:
    from ..models.generate import Generator

LINKED = ("traces_cot.jsonl", "traces_amplified.jsonl", "task_policy.json", "metrics.json", "report.html")


@dataclass(frozen=True)
class DistillResult:
    """What `distill` made; everything lies in `folder`, most of it as links into the store."""

    name: str
    folder: Path
    model_path: Path
    """A folder that transformers (or PEFT) loads."""
    metrics: dict[str, Any]
    """Scores with intervals, differences, slices, as in `metrics.json`."""
    report: Path
    """The page, `report.html`."""
    cost: float | None
    """US dollars that the calls behind the result came to; None where the price of some is unknown."""
    system: str | None
    """The system message with which the student was trained."""
    summary: str
    """The comparison as text."""
    coverage: dict[str, Any]
    """How many of the new inputs are of each length, and of each pattern, difficulty and cluster where these count:
    the share that was planned (None where nothing was), the share that was reached, and the rows."""
    _generators: dict[str, Generator] = field(default_factory=dict, repr=False, compare=False)
    """By device."""

    def generate(self, inputs: Sequence[str], *, max_tokens: int = 512, device: str = "auto") -> list[str]:
        """The student's replies, without its thinking. Raises `ModelError` naming an input that gets none.

        The model stays loaded on each device that it was asked on.
        """
        from ..core.errors import RowFault
        from ..models.generate import Generator

        if isinstance(inputs, str):
            raise RecipeError("`inputs` is one text, expected a list of them", "Put it into a list: [text].")
        if device not in self._generators:
            self._generators[device] = Generator(self.model_path, device)
        opening = [] if self.system is None else [{"role": "system", "content": self.system}]
        questions = [[*opening, {"role": "user", "content": text}] for text in inputs]
        replies = []
        for text, reply in zip(inputs, self._generators[device].replies(questions, max_tokens), strict=True):
            if isinstance(reply, RowFault):
                raise ModelError(f"no reply to {text!r:.200}: {reply}")
            replies.append(reply.text.rpartition(END_OF_THINKING)[2].strip())
        return replies


def distill(
    name: str,
    seed: Examples,
    instruction: str,
    teacher: str | Ask,
    student: Student,
    augment_factor: float = 50,
    *,
    output: str | os.PathLike[str] = "outputs",
    response_model: Any = None,  # a pydantic model class, a JSON Schema or a `Schema`
    held_out: Examples | None = None,
    verify: Verify | None = None,
    samples: int = 1,
    difficulty: Mapping[str, float] | None = None,
    steer: Sequence[str] = (),
    clusters: Literal["auto"] | int | None = None,
    endpoint: str | None = None,
    thinking: Thinking | None = None,
    max_tokens: int = 512,
    options: Options | None = None,
    endpoints: Mapping[str, Any] | None = None,
    credentials: Any = None,  # as `Session` takes them
    budget: Any = None,
    concurrency: int | None = None,
    prices: Mapping[str, Any] | None = None,
    patience: Any = None,  # how long a teacher that is down is waited for
    batch: Any = None,
    on_event: Listener | None = None,
    progress: bool | None = None,
    **changes: Mapping[str, Any],
) -> DistillResult:
    """Turn a dozen examples into a small model, measured against what it was before and against baselines.

    `seed` holds rows with `input` and `output` (a file or a list), `student` is a hub name, a folder or `Scratch(...)`.
    What each step does is told in `distillation`, which takes the same arguments; those from `options` on say where and
    how, as for a `Session`. The same call goes on where an interrupted one stopped, and asks nothing twice.
    """
    steps = distillation(
        seed,
        instruction,
        teacher,
        student,
        augment_factor,
        response_model=response_model,
        held_out=held_out,
        verify=verify,
        samples=samples,
        difficulty=difficulty,
        steer=steer,
        clusters=clusters,
        endpoint=endpoint,
        thinking=thinking,
        max_tokens=max_tokens,
        title=checked_name(name),
        **changes,
    )
    with Session(
        Path(output),
        options=options,
        endpoints=endpoints,
        credentials=credentials,
        budget=budget,
        concurrency=concurrency,
        prices=prices,
        patience=patience,
        batch=batch,
        on_event=on_event,
        progress=progress,
    ) as session:
        return deliver(session, name, steps)


def deliver(session: Session, name: str, steps: Distillation) -> DistillResult:
    """Run a distillation and lay its result out in `<session folder>/<name>/`."""
    folder = session.folder / checked_name(name)
    files = delivery(steps)
    _write_recipe(folder, name, files)
    # One run: another would ask once more for the rows that got no answer in the first.
    made, model, *asking = session.run(
        [files, steps.after, steps.traces, steps.policy, steps.amplified, steps.answered], name=name
    )
    assert isinstance(model, Model)
    _write_asking(folder, steps)
    link_folder(folder, {**{entry: made.data / entry for entry in LINKED}, "model": model.path})
    return DistillResult(
        name=name,
        folder=folder,
        model_path=folder / "model",
        metrics=json.loads((made.data / "metrics.json").read_text(encoding="utf-8")),
        report=folder / "report.html",
        cost=_cost(asking),
        system=steps.system,
        summary=str(made),
        coverage=asking[2].record["facts"]["coverage"],
    )


def delivery(steps: Distillation) -> Deliver:
    """The step that a distillation's name points to."""
    return Deliver(
        traces=steps.traces,
        amplified=steps.curated,
        policy=steps.policy,
        comparison=steps.comparison,
        page=steps.report,
    )


def _write_recipe(folder: Path, name: str, files: Deliver) -> None:
    """`recipe.yaml`, which `stillhouse run` takes; it says why where the recipe cannot be written down."""
    try:
        table = {"name": name, "output": "..", **recipe_table(files, folder)}
        text = yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=120)
    except RecipeError as error:
        text = f"# This recipe cannot be written into a file: {error.message}\n# {error.hint or ''}\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the name exists, which would put a link there
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"`{folder}` cannot be written: {error.strerror or error}") from error


def _write_asking(folder: Path, steps: Distillation) -> None:
    """`asking.json`: how the student was trained to be asked, for who has the folder and not the code of the recipe."""
    asked = [each for each in steps.comparison.inputs() if isinstance(each, Predict) and each.by.model == steps.after]
    mark = asked[-1].answer_after if asked else None
    write_json(folder / "asking.json", {"system": steps.system, "answer_after": mark})


def _cost(artifacts: Sequence[Artifact]) -> float | None:
    totals = [artifact.record["calls"]["total"] for artifact in artifacts if "calls" in artifact.record]
    return None if any(total["unpriced"] for total in totals) else float(sum(total["cost_usd"] for total in totals))
