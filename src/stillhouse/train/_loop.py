"""The training loop; there is one. Objective, schedule and optimiser are given to it, data comes from the loader."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.errors import TrainError
from ..models.forward import Forward
from ..tokens.batch import Batch
from ._batches import MicroBatch, micro_batches
from ._best import BestWeights
from ._history import History
from ._optimiser import load_state_by_name, state_by_name, trainable
from ._randomness import random_state, set_random_state
from .checkpoint import drop_all_but, newest_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from ..tokens._loader import Loader
    from .finetune import Finetune
    from .objective import Objective
    from .optimiser import MakeOptimiser
    from .schedule import Schedule

NUM_CHECKPOINTS = 2
"""Kept for taking up the work again: should the newest be damaged, there is the one before."""

MAX_CHECKPOINT_SHARE = 0.05
"""Of the time goes into writing checkpoints at most, however large the model."""


@dataclass(frozen=True)
class Trained:
    """What the run came to, for the record."""

    steps: int
    num_steps: int
    tokens: int
    learnt_tokens: int
    loss: float
    """Of the last update."""
    eval_loss: float | None
    """Of the weights that are handed out."""
    best_step: int | None
    stopped_early: bool


@dataclass
class Position:
    """Where the run stands; all that is not a tensor, a random state or the loader's."""

    step: int = 0
    tokens: int = 0
    learnt_tokens: int = 0
    loss: float = math.nan
    eval_loss: float | None = None
    best_step: int | None = None
    best_loss: float = math.inf
    best_digest: str = ""
    worse: int = 0
    """Evaluations since the best one."""


@dataclass(frozen=True)
class Update:
    """What one optimiser step saw."""

    loss: float
    norm: float
    tokens: int
    learnt: int
    metrics: dict[str, float]


class Loop:
    """One run, from wherever the last checkpoint in `context.scratch` left it."""

    def __init__(
        self,
        recipe: Finetune,
        forward: Forward,
        loader: Loader,
        held_out: Mapping[str, Loader],
        context: Context,
        device: torch.device,
        num_steps: int,
        precision: torch.dtype,
    ) -> None:
        self.recipe = recipe
        self.forward = forward
        self.model: nn.Module = forward.model
        self.loader = loader
        self.held_out = held_out
        self.context = context
        self.device = device
        self.num_steps = num_steps
        self.precision = precision
        self.position = Position()
        self.parameters = dict(trainable(self.model))
        self.objective = cast("Objective", recipe.objective)
        self.schedule = cast("Schedule", recipe.schedule)
        self.optimiser = cast("MakeOptimiser", recipe.optimiser)(self.model, recipe.peak_rate)
        self.history = History(context.scratch / "history.jsonl")
        self.best = BestWeights(context.scratch / "best")
        self.checkpoints = context.scratch / "checkpoints"
        self.kept = context.scratch / "kept"
        self._ready: tuple[Batch, list[MicroBatch]] | None = None
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._kept_steps = kept_steps(num_steps, recipe.checkpoints)
        self._evaluate_every = recipe.evaluate_every or max(1, round(num_steps / 10))
        self._last_write = time.monotonic()
        self._write_seconds = 0.0

    def run(self) -> Trained:
        """Train to the end; the model then holds the weights to hand out."""
        self._resume()
        self.model.train()
        try:
            if self.position.step == 0:
                self._evaluate()
            batches = iter(self.loader)
            while self.position.step < self.num_steps and not self._stopped_early:
                self._stop_if_asked()
                self._advance(next(batches))
        finally:
            self.history.close()
        return self._finish()

    @property
    def _stopped_early(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.position.worse >= patience

    def _advance(self, batch: Batch) -> None:
        begun = time.monotonic()
        step = self.position.step
        rate = self.recipe.peak_rate * self.schedule(step, self.num_steps)
        update = self._update(batch, rate)
        self.position.step += 1
        if update is not None:
            self._record(rate, update, time.monotonic() - begun)
        if self.position.step % self._evaluate_every == 0 or self.position.step == self.num_steps:
            self._evaluate()
        if self.position.step in self._kept_steps or (self._kept_steps and self._stopped_early):
            state = {"learning_rate": rate, "tokens": self.position.tokens, "eval_loss": self.position.eval_loss}
            write_checkpoint(self.kept, self.position.step, self.parameters, self._optimiser_state(), state)
        pause = max(self.context.options.checkpoint_seconds, self._write_seconds / MAX_CHECKPOINT_SHARE)
        if time.monotonic() - self._last_write >= pause:
            self._save()

    def _update(self, batch: Batch, rate: float) -> Update | None:
        """Gradients of sums over all micro-batches, one division, one step; None where nothing is learnt."""
        totals: dict[str, Tensor] = {}
        loss = torch.zeros((), device=self.device)
        denominator = torch.zeros((), device=self.device)
        for micro in self._micro_batches(batch):
            with _device_errors(micro), self._autocast():
                measured = self.objective(self.forward, micro)
                measured.sum.backward()
            loss += measured.sum.detach()
            denominator += measured.denominator
            for name, value in measured.metrics.items():
                totals[name] = totals[name] + value if name in totals else value
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        length = self._length(gradients)
        self._look_ahead()
        metered = [value.detach().reshape(()).to(loss) for value in totals.values()]
        # The one wait for the device.
        total, summed, unscaled, *sums = torch.stack([denominator, loss, length, *metered]).tolist()
        if total == 0.0:  # every example in these rows has weight 0: there is nothing to move towards
            return None
        mean, norm = summed / total, unscaled / total
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise self._not_finite(mean, norm, batch)
        clip = self.recipe.clip
        torch._foreach_mul_(gradients, (1.0 if clip is None or norm <= clip else clip / norm) / total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        metrics = {name: value / total for name, value in zip(totals, sums, strict=True)}
        return Update(mean, norm, batch.num_tokens, batch.num_learnt, metrics)

    def _length(self, gradients: list[Tensor]) -> Tensor:
        """Of all gradients as one vector."""
        if not gradients:
            return torch.zeros((), device=self.device)
        norms = torch._foreach_norm(gradients)
        length: Tensor = torch.linalg.vector_norm(torch.stack([value.to(self.device) for value in norms]))
        return length

    def _micro_batches(self, batch: Batch) -> Iterable[MicroBatch]:
        """The batch on the device, where it was brought while the device was busy with the one before."""
        ready, self._ready = self._ready, None
        if ready is not None and ready[0] is batch:
            return ready[1]
        return micro_batches(batch, self.context.options.micro_batch, self.device)

    def _look_ahead(self) -> None:
        """Bring the next update's rows to a GPU, which still computes; elsewhere nothing would be gained."""
        if self.device.type == "cuda" and self.position.step + 1 < self.num_steps:
            batch = self.loader.peek()
            self._ready = batch, list(micro_batches(batch, self.context.options.micro_batch, self.device))

    def _record(self, rate: float, update: Update, seconds: float) -> None:
        step = self.position.step
        self.position.tokens += update.tokens
        self.position.learnt_tokens += update.learnt
        self.position.loss = update.loss
        series = {"loss": update.loss, "learning_rate": rate, "grad_norm": update.norm, **update.metrics}
        self.history.add({"step": step, **series, "tokens": self.position.tokens})
        self.context.log(step, **series, tokens_per_second=update.tokens / max(seconds, 1e-9))
        self.context.progress(step, self.num_steps, "updates", loss=round(update.loss, 4))

    def _evaluate(self) -> None:
        """Loss over all held-out documents; remembers the best weights and counts evaluations without a better one."""
        if not self.held_out:
            return
        position = self.position
        found = self.evaluation(self.held_out)
        if not math.isfinite(found["eval_loss"]):
            raise TrainError(
                f"the held-out loss is not finite after {position.step} updates ({found['eval_loss']})",
                f"Lower `learning_rate` (now {self.recipe.peak_rate:g}); if it was so before the first update, look at "
                "the base and the held-out rows.",
            )
        position.eval_loss = found["eval_loss"]
        self.history.add({"step": position.step, **found})
        self.context.log(position.step, **found)
        if position.step == 0:
            return
        if found["eval_loss"] < position.best_loss:
            position.best_step, position.best_loss, position.worse = position.step, found["eval_loss"], 0
            if self.recipe.keep_best:
                position.best_digest = self.best.write(position.step, self.parameters)
        else:
            position.worse += 1

    def evaluation(self, held_out: Mapping[str, Loader]) -> dict[str, float]:
        """Mean loss and metrics over all learnt tokens, whatever the batches: sums in float64, one division.

        Where there are several sources, also the loss of each.
        """
        sums: dict[str, float] = {"loss": 0.0}
        denominator = 0.0
        by_source: dict[str, float] = {}
        self.model.eval()
        with torch.no_grad():
            for source, loader in held_out.items():
                loss, weight = sums["loss"], denominator
                for batch in loader.once(self.context.options.micro_batch or self.recipe.batch_size):
                    for micro in micro_batches(batch, None, self.device):
                        with _device_errors(micro), self._autocast():
                            measured = self.objective(self.forward, micro)
                        denominator += float(measured.denominator)
                        for name, value in {"loss": measured.sum, **measured.metrics}.items():
                            sums[name] = sums.get(name, 0.0) + float(value)
                    self._stop_if_asked()
                if denominator > weight:
                    by_source[f"eval_loss_{source}"] = (sums["loss"] - loss) / (denominator - weight)
        self.model.train()
        if denominator == 0.0:
            raise TrainError("the held-out documents have no token to be judged by", "Give held-out rows with replies.")
        means = {f"eval_{name}": value / denominator for name, value in sums.items()}
        return {**means, **(by_source if len(held_out) > 1 else {})}

    def _finish(self) -> Trained:
        position = self.position
        best = position.best_step if self.recipe.keep_best else None
        if best is not None and best != position.step:
            self.best.load(best, position.best_digest, self.parameters)
        self.model.eval()
        return Trained(
            steps=position.step,
            num_steps=self.num_steps,
            tokens=position.tokens,
            learnt_tokens=position.learnt_tokens,
            loss=position.loss,
            eval_loss=position.best_loss if best is not None else position.eval_loss,
            best_step=best,
            stopped_early=self._stopped_early and position.step < self.num_steps,
        )

    def _stop_if_asked(self) -> None:
        if self.context.stopping:
            if self.model.training and self.position.step > 0:
                self._save()
            self.context.check_stop()

    def _save(self) -> None:
        begun = time.monotonic()
        state = {
            "position": asdict(self.position),
            "random": random_state(),
            "loader": self.loader.state_dict(),
            "history_bytes": self.history.flush(),
        }
        write_checkpoint(self.checkpoints, self.position.step, self.parameters, self._optimiser_state(), state)
        drop_all_but(self.checkpoints, NUM_CHECKPOINTS)
        self.best.drop_unreferenced(self.checkpoints)
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - begun

    def _resume(self) -> None:
        found = newest_checkpoint(self.checkpoints, self.context.warn)
        if found is None:
            self.history.start(0)
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.parameters[name])
        load_state_by_name(self.optimiser, self.model, found.optimiser)
        self.position = Position(**found.state["position"])
        self.loader.load_state_dict(found.state["loader"])
        self.history.start(found.state["history_bytes"])
        set_random_state(found.state["random"])

    def _optimiser_state(self) -> dict[str, Tensor]:
        return state_by_name(self.optimiser, self.model)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def _not_finite(self, loss: float, norm: float, batch: Batch) -> TrainError:
        ids = [row_id for row_id in batch.row_ids if row_id is not None]
        shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        return TrainError(
            f"the loss is not finite at update {self.position.step + 1} (loss {loss}, gradient norm {norm}); "
            f"the rows of this batch: {shown}",
            f"Lower `learning_rate` (now {self.recipe.peak_rate:g}), lengthen the warm-up of the schedule, or set "
            "`clip`; if it always happens at these rows, look at them.",
        )


def kept_steps(num_steps: int, count: int) -> frozenset[int]:
    """After which updates a checkpoint is kept for good: evenly spread, the last one included."""
    return frozenset(max(1, round(num_steps * (number + 1) / count)) for number in range(count))


@contextmanager
def _device_errors(micro: MicroBatch) -> Iterator[None]:
    """Running out of memory, or of ways to be deterministic, in words that say what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if "deterministic" in str(error) and torch.are_deterministic_algorithms_enabled():
            if "CUBLAS_WORKSPACE_CONFIG" in str(error):
                raise TrainError(
                    "this process used the GPU before, and cuBLAS then adds up in any order",
                    "Set the variable CUBLAS_WORKSPACE_CONFIG=:4096:8 before the process begins.",
                ) from error
            raise TrainError(
                f"this model cannot be trained in one order on this device: {str(error).split(', but')[0]}",
                "Leave the session's `deterministic` out; sums may then come in another order each time.",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainError(
            f"memory ran out in a forward and backward pass over {micro.num_tokens} tokens",
            "Give the session a smaller `micro_batch` (the result stays the same), or train a smaller model, shorter "
            "rows (`seq_len`) or an adapter.",
        ) from error
