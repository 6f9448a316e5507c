"""The one training loop: it executes a span of a plan, whatever the stage or variant."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.fingerprint import difference
from tinyllama.checkpoint.state import CheckpointState
from tinyllama.corpus.local_copies import local_copies
from tinyllama.errors import Interrupted, TrainingError
from tinyllama.sampler import Sampler
from tinyllama.train.feeder import StepBatch, feed
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.machine import checkpoint_bytes, cores, exclusive, measure_peak, require_space, reuse_memory
from tinyllama.train.metrics import JsonlLogger, Logger, Record, TensorBoardLogger, WandbLogger
from tinyllama.train.optimizer import clip
from tinyllama.train.run import Run, find_start, keep_recipe
from tinyllama.train.saving import CheckpointWriter
from tinyllama.train.signals import StopRequest
from tinyllama.train.spikes import MOST_IN_A_ROW, SpikeWatch
from tinyllama.train.training_state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.checkpoint.format import Checkpoint


def train(run: Run) -> Checkpoint:
    """Train a run to its end, from wherever it stands.

    Returns:
        Its last checkpoint.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came to any rank; the state was saved first.
        RankLostError: another rank died or hangs.
        TrainingError: a gradient is not finite, the disk is too small, or the folder is in use.
        CheckpointError: the checkpoint to go on from belongs to another recipe.
        StorageError: the URL for checkpoints cannot be reached or written.
    """
    ranks = run.ranks
    with ExitStack() as held:
        with ranks.phase("the start"):
            ranks.run_on_rank0(lambda: held.enter_context(exclusive(run.folder)))
            start = ranks.run_on_rank0(lambda: find_start(run))
            step = start.step if start is not None else run.first_step
            differing = difference(
                ranks.gather({"steps": run.plan.steps, "from step": step, **run.fingerprint_inputs(step).root})
            )
        if differing is not None:
            ranks.raise_on_rank0(TrainingError(differing))
        ranks.run_on_rank0(lambda: keep_recipe(run.family, run.recipe, run.store))
        if start is not None and start.step == run.plan.steps:
            return start
        with StopRequest() as stop:
            return _Trainer(run, start, stop).run_to_end()


class _Trainer:
    """Executes a run in this process."""

    def __init__(self, run: Run, start: Checkpoint | None, stop: StopRequest) -> None:
        recipe = run.recipe
        recorded = start.state if start is not None else None
        self.run, self.stop, self.ranks = run, stop, run.ranks
        same_ranks = recorded is not None and recorded.ranks == self.ranks.count
        threads = max(1, cores() // self.ranks.per_node)
        self.threads = _or_auto(
            recipe.hardware.threads, recorded.threads if recorded is not None and same_ranks else None, threads
        )
        self.micro_batch = _or_auto(
            recipe.hardware.micro_batch, None if recorded is None else recorded.micro_batch, recipe.micro_batch
        )
        torch.set_num_threads(self.threads)
        reuse_memory()
        self.state = TrainingState(recipe, self.ranks)
        if start is not None:
            self.state.restore(start)
        watched = None if recorded is None else recorded.spikes
        self.spikes = SpikeWatch(recipe.spikes, watched) if recipe.spikes.policy != "none" else None
        self.planned = watched.planned if watched is not None else start.step if start is not None else None
        """Step of the last checkpoint that was planned, not asked for by a signal; None before the first."""
        masked = recipe.document_masking
        self.gradients = Gradients(
            self.state.model,
            micro_batch=self.micro_batch,
            document_bos=next(iter(run.corpora.values())).manifest.bos_id if masked else None,
            compiled=recipe.hardware.compile,
        )
        self.peak = measure_peak(recipe.precision, self.ranks.device)
        self.stage_ends = {end for _, _, end in run.plan.stage_steps()}
        permanent = recipe.checkpoints.permanent
        # An imported model is the step-0 checkpoint; variants may fork from it at any later time.
        imported = {0} if recipe.start is not None else set()
        self.kept = self.stage_ends | imported | (run.plan.steps_crossing(permanent) if permanent else set())
        """Steps whose checkpoints stay."""
        self.store = run.store
        self.writer = CheckpointWriter(self.store, recipe.checkpoints.keep, self.kept, self.ranks)
        self.stalled = 0.0
        """Seconds that training stood still for a checkpoint since the last record."""

    def run_to_end(self) -> Checkpoint:
        """Execute the plan from the current step on."""
        run, plan = self.run, self.run.plan
        size = checkpoint_bytes(run.recipe) * self.store.on_disk(run.recipe.checkpoints.keep, len(self.stage_ends))
        self.ranks.run_on_rank0(lambda: require_space(run.folder, size, "checkpoints"))
        rows = {name: run.corpora[name].rows("train", plan.context) for name in plan.corpora}
        sampler = Sampler(plan, run.recipe.seed, {name: len(part) for name, part in rows.items()})
        loggers = self._loggers()
        try:
            streams = [(run.corpora[name], part.stream) for name, part in rows.items()]
            with local_copies(run.recipe.hardware.local_copies, streams):
                for batch in feed(plan, sampler, rows, self.state.step, plan.steps, self.ranks):
                    self._take(batch, loggers)
        finally:
            self.writer.close()  # first, so that receivers find the last checkpoint complete
            for logger in loggers:
                logger.close()
        with self.ranks.phase("the last checkpoint"):
            self.writer.wait()
            self.ranks.run_on_rank0(lambda: self.store.prune(0, self.kept))
            last = self.ranks.run_on_rank0(lambda: self.store.open(plan.steps))
            signal_number = self.ranks.largest(self.stop.signal_number)
        if signal_number:
            text = f"stopped: {run.name} is complete; the same command goes on with what comes after it"
            self.ranks.raise_on_rank0(Interrupted(signal_number, text))
        return last

    def _take(self, batch: StepBatch, loggers: list[Logger]) -> None:
        """One step, its records, and what is due after it."""
        for record in self._one_step(batch):
            for logger in loggers:
                logger.log(record)
        with self.ranks.phase(f"the agreement on step {self.state.step}"):
            signal_number = self.ranks.largest(self.stop.signal_number)
        self._save_where_due(loggers, stopping=signal_number > 0)
        if signal_number:
            steps = self.run.plan.steps
            text = f"stopped and saved at step {self.state.step} of {steps}; the same command goes on"
            self.ranks.raise_on_rank0(Interrupted(signal_number, text))

    def _loggers(self) -> list[Logger]:
        """Receivers of records, on the first rank."""
        run, logging_keys = self.run, self.run.recipe.logging
        if not self.ranks.first:
            return []
        loggers: list[Logger] = [JsonlLogger(run.layout.metrics(run.name), self.state.step)]
        if logging_keys.tensorboard:
            loggers.append(TensorBoardLogger(run.layout.tensorboard(run.name), run.plan.tokens_after(self.state.step)))
        if logging_keys.wandb is not None:
            loggers.append(WandbLogger(run.recipe, logging_keys.wandb, run.name))
        return loggers + run.watch

    def _one_step(self, batch: StepBatch) -> Iterator[Record]:
        """One optimizer step, and a held-out measurement where one is due."""
        plan, began = self.run.plan, time.perf_counter()
        stalled, self.stalled = self.stalled, 0.0
        with self.ranks.phase(f"the gradients of step {batch.step + 1}"):
            loss = self.ranks.sum(self.gradients(batch))
            norm = clip(self.state.weights.masters.values(), self.run.recipe.optimizer.clip)
        facts = {
            "step": batch.step + 1,
            "stage": plan.stages[plan.stage[batch.step]],
            "tokens": plan.tokens_after(batch.step + 1),
        }
        if self.spikes is not None and self._is_spike(self.spikes, batch, loss, norm):
            self.stalled += stalled  # the next step's record tells it
            yield {"kind": "spike", **facts, **self._leave_out(self.spikes, batch, loss, norm)}
        else:
            self._update(batch, loss, norm)
            seconds = time.perf_counter() - began
            speed = len(batch.rows.row) * plan.context / seconds
            yield {
                "kind": "step",
                **facts,
                "loss": loss,
                "lr": float(plan.lr[batch.step]),
                "grad_norm": norm,
                "batch": int(plan.batch[batch.step]),
                "counts": dict(zip(plan.corpora, plan.counts[batch.step].tolist(), strict=True)),
                "seconds": round(seconds, 4),
                "checkpoint_seconds": round(stalled, 4),
                "tokens_per_second": round(speed, 1),
                "utilisation": round(speed * self.run.recipe.model.flops_per_token / (self.peak * self.ranks.count), 4),
            }
        if self._due(self.run.recipe.evaluation.every):
            with self.ranks.phase(f"the held-out losses of step {self.state.step}"):
                losses = self.run.held_out_losses(self.state.model)
            yield {
                "kind": "held_out",
                "step": self.state.step,
                "tokens": plan.tokens_after(self.state.step),
                "losses": losses,
            }

    def _update(self, batch: StepBatch, loss: float, norm: float) -> None:
        if not math.isfinite(norm) or not math.isfinite(loss):
            self.ranks.raise_on_rank0(TrainingError(self._not_finite(batch, loss, norm)))
        self.state.update(float(self.run.plan.lr[batch.step]))
        if self.spikes is not None:
            self.spikes.updated(loss)

    def _is_spike(self, spikes: SpikeWatch, batch: StepBatch, loss: float, norm: float) -> bool:
        """What all ranks agree on: whether any of them sees a spike."""
        if batch.step in self.stage_ends:
            spikes.begin_stage()
        with self.ranks.phase(f"the agreement on the loss of step {batch.step + 1}"):
            return bool(self.ranks.largest(spikes.is_spike(loss, norm)))

    def _leave_out(self, spikes: SpikeWatch, batch: StepBatch, loss: float, norm: float) -> Record:
        """Go on after a spike without its update; by policy, without those since the last planned checkpoint."""
        threshold, policy = spikes.threshold, self.run.recipe.spikes.policy
        if not spikes.skipped():
            self.ranks.raise_on_rank0(TrainingError(self._hopeless(batch, loss, norm)))
        if policy == "rollback-and-skip" and self.planned is not None:
            self._go_back(spikes, self.planned)
        return {
            "loss": loss if math.isfinite(loss) else None,
            "grad_norm": norm if math.isfinite(norm) else None,
            "threshold": threshold,
            "policy": policy,
            "left_out": self.state.skip(batch.step + 1),
            "rows": batch.named_rows(self.run.plan),
        }

    def _go_back(self, spikes: SpikeWatch, planned: int) -> None:
        """Take the state of the last planned checkpoint, which may be the fork."""
        with self.ranks.phase(f"the way back to step {planned}"):
            self.writer.wait()
            checkpoint = self.ranks.run_on_rank0(lambda: self.run.checkpoint(planned))
        self.state.restore(checkpoint)
        recorded = checkpoint.state.spikes
        spikes.roll_back(() if planned in self.stage_ends or recorded is None else recorded.losses)

    def _due(self, every: int) -> bool:
        """Whether the step just done crossed a multiple of `every` tokens or ended a stage."""
        before, after = (self.run.plan.tokens_after(step) for step in (self.state.step - 1, self.state.step))
        return before // every != after // every or self.state.step in self.stage_ends

    def _checkpoint_due(self) -> bool:
        return self._due(self.run.recipe.checkpoints.every) or self.state.step in self.kept

    def _save_where_due(self, loggers: list[Logger], *, stopping: bool) -> None:
        """Save what is planned, and, if training is to stop, what there is."""
        due = self._checkpoint_due()
        if due:
            self.planned = self.state.step
        if due or stopping:
            for logger in loggers:
                logger.flush()
            with self.ranks.phase(f"the checkpoint of step {self.state.step}"):
                self._save()
                if stopping:
                    self.writer.wait()

    def _save(self) -> None:
        began = time.perf_counter()
        run, inputs = self.run, self.run.fingerprint_inputs(self.state.step)
        state = CheckpointState(
            recipe=run.recipe.name,
            run=run.name,
            step=self.state.step,
            tokens=run.plan.tokens_after(self.state.step),
            fingerprint=inputs.fingerprint(self.state.skipped),
            fingerprint_inputs=inputs,
            torch_version=torch.__version__,
            ranks=self.ranks.count,
            threads=self.threads,
            micro_batch=self.micro_batch,
            moment_steps=self.state.moment_steps,
            skipped=self.state.skipped,
            spikes=None if self.spikes is None else self.spikes.state(self.planned),
        )
        needed = self.planned if run.recipe.spikes.policy == "rollback-and-skip" else None
        self.writer.save(self.state.tensors, state, needed)
        self.stalled += time.perf_counter() - began

    def _not_finite(self, batch: StepBatch, loss: float, norm: float) -> str:
        rows = ", ".join(batch.named_rows(self.run.plan))
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: not finite, stopped before "
            "the update; the last checkpoint is good. Lower optimizer.learning_rate.peak, set spikes.policy, or look "
            f"at the rows: {rows}"
        )

    def _hopeless(self, batch: StepBatch, loss: float, norm: float) -> str:
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: spike {MOST_IN_A_ROW} in a "
            "row, stopped before the update. That is the fault of the weights or of the threshold, not of the rows: "
            "lower optimizer.learning_rate.peak, raise spikes.sigmas, or delete the newest checkpoints to go on from "
            "an earlier one"
        )


def _or_auto(asked: int | str, recorded: int | None, chosen: int) -> int:
    """What the recipe says; `auto` repeats what the checkpoint records, else takes what suits this machine."""
    return asked if isinstance(asked, int) else recorded or chosen
