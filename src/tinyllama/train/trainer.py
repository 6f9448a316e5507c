"""The one training loop: it executes a span of a plan, whatever the stage or variant."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.fingerprint import difference
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.state import CheckpointState
from tinyllama.corpus.digest import from_limbs, limbs
from tinyllama.corpus.local_copies import local_copies
from tinyllama.corpus.manifest import TRAIN
from tinyllama.errors import DivergedError, Interrupted, TrainingError
from tinyllama.model.devices import free_memory, most_memory, set_current_device
from tinyllama.model.documents import Documents, without_segments
from tinyllama.processors import available_cores
from tinyllama.recipe.running import MEASURED
from tinyllama.sampler import Sampler
from tinyllama.train.alerts import receiver
from tinyllama.train.average import averaged_steps, write_average
from tinyllama.train.feeder import StepBatch, feed
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.lifecycle import Lifecycle
from tinyllama.train.machine import exclusive, known_peak_flops, reuse_memory
from tinyllama.train.metrics import (
    HeldOutRecord,
    JsonlLogger,
    Logger,
    OverflowRecord,
    Record,
    SpikeRecord,
    StepRecord,
)
from tinyllama.train.micro_batch import fastest_micro_batch, known_micro_batch, largest_micro_batch
from tinyllama.train.optimizer import clip, gradient_norm
from tinyllama.train.precision import DTYPES
from tinyllama.train.profile import profiled, region
from tinyllama.train.run import TrainingRun, find_start, keep_recipe
from tinyllama.train.saving import CheckpointWriter
from tinyllama.train.signals import StopRequest
from tinyllama.train.spikes import MOST_IN_A_ROW, SpikeWatch
from tinyllama.train.trackers import TensorBoardLogger, open_trackers
from tinyllama.train.training_state import TrainingState

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.recipe import Recipe
    from tinyllama.train.precision import LossScaler

_log = logging.getLogger(__name__)


def train(run: TrainingRun) -> Checkpoint:
    """Train a model to its end, from its newest good checkpoint.

    Returns:
        Its last checkpoint.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came to any rank; the state was saved first.
        RankLostError: another rank died or hangs.
        DivergedError: a gradient is not finite, or there are too many spikes in a row.
        TrainingError: the disk is too small, or the folder is in use.
        CheckpointError: the checkpoint to resume from belongs to another recipe.
        StorageError: the URL for checkpoints cannot be reached or written.
    """
    ranks = run.ranks
    set_current_device(ranks.device)  # ranks have theirs since they joined; one process may compute on cuda:1
    with ExitStack() as held:
        with ranks.phase("the start"):
            ranks.run_on_rank0(lambda: held.enter_context(exclusive(run.folder)))
            url = ranks.run_on_rank0(lambda: receiver(run.recipe.logging.notify))
            lifecycle = held.enter_context(Lifecycle(run, url))
            start = ranks.run_on_rank0(lambda: find_start(run))
            step = start.step if start is not None else run.first_step
            differing = difference(
                ranks.gather({"steps": run.plan.steps, "from step": step, **run.fingerprint_inputs(step).root})
            )
        if differing is not None:
            ranks.raise_on_rank0(TrainingError(differing))
        ranks.run_on_rank0(lambda: keep_recipe(run.family, run.recipe, run.store))
        if start is not None and start.step == run.last_step:
            with ranks.phase("the average of the weights"):
                ranks.run_on_rank0(lambda: write_average(run))
            return start
        lifecycle.begin()
        with StopRequest() as stop:
            return _Trainer(run, start, stop, lifecycle).run_to_end()


class _Trainer:
    """Executes a run in this process."""

    def __init__(self, run: TrainingRun, start: Checkpoint | None, stop: StopRequest, lifecycle: Lifecycle) -> None:
        recipe, recorded = run.recipe, start.state if start is not None else None
        self.run, self.recipe, self.plan, self.stop, self.ranks = run, recipe, run.plan, stop, run.ranks
        self.lifecycle = lifecycle
        self.threads, first = _threads(run, recorded), run.first_step if start is None else start.step
        torch.set_num_threads(self.threads)
        if self.ranks.per_node > 1:  # each rank has workers of its own
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(self.threads))
        reuse_memory()
        known = known_micro_batch(run, recorded)
        documents = _documents(run) if recipe.document_masking else None
        build = partial(_build_gradients, recipe, documents)
        micro_batch = largest_micro_batch(run, first, build) if known is None else known
        free_memory(self.ranks.device)
        self.state = TrainingState(recipe, self.ranks, initial=start is None)
        self.fork = start if start is not None and start.step == run.first_step else None
        """The checkpoint before the first step, if training begins there; of its path no earlier one need be there."""
        if start is not None:
            self.state.restore(start)
            start.release()
        watched = None if recorded is None else recorded.spikes
        self.spikes = SpikeWatch(recipe.spikes, watched) if recipe.spikes.policy != "none" else None
        self.planned = (
            watched.planned if watched is not None and self.fork is None else None if start is None else start.step
        )
        """Step of the last checkpoint that was planned, not asked for by a signal; None before the first."""
        self.gradients = build(self.state, micro_batch)
        self.micro_batch = micro_batch
        """Sequences of the model's context in a pass; those of another context have about as many tokens."""
        if known is None and recipe.hardware.micro_batch == MEASURED:
            self.micro_batch = fastest_micro_batch(run, first, micro_batch, self.gradients)
            self.state.weights.sync_working_copy()  # drops their gradients
        self.shapes = [stage.shape(recipe.model) for stage in recipe.line(run.plan.variant).stages]
        """The model's in each stage."""
        self.stage_ends = {end for _, _, end in run.plan.stage_steps()}
        permanent = recipe.checkpoints.permanent
        # An imported model is the step-0 checkpoint; variants may fork from it at any later time.
        imported = {0} if recipe.start is not None else set()
        kept = self.stage_ends | imported | (run.plan.steps_crossing(permanent) if permanent else set())
        self.always = frozenset(kept)
        """Steps whose checkpoints are planned, whatever the recipe's `checkpoints.every` is."""
        self.permanent = self.always | run.fork_steps
        """Steps whose checkpoints stay when the model is finished and its average is written."""
        self.retention = Retention(recipe.checkpoints.keep, self.permanent | set(averaged_steps(recipe, run.plan)))
        self.store = run.store
        self.writer = CheckpointWriter(self.store, self.retention, self.ranks)
        self.loggers: list[Logger] = []
        self.journal: JsonlLogger | None = None
        """The first of them, on the first rank."""
        self.digest = ""
        """Of the rows that all ranks were fed in the step."""
        self.stalled = 0.0
        """Seconds that training stood still for a checkpoint since the last step's record."""

    def run_to_end(self) -> Checkpoint:
        """Execute the plan from the current step on."""
        run, plan, recipe = self.run, self.plan, self.recipe
        rows = {name: run.corpora[corpus].rows(TRAIN, context) for name, (corpus, context) in plan.partitions.items()}
        sampler = Sampler(plan, recipe.seed, {name: len(part) for name, part in rows.items()})
        if self.ranks.device.type != "cpu":  # there, the compiler takes cores until the first step is done
            self._peak_flops()
        self.loggers = self._open_loggers()
        try:
            streams = [(run.corpora[plan.partitions[name][0]], part.stream) for name, part in rows.items()]
            with local_copies(recipe.hardware.local_copies, streams):
                fed, steps = feed(plan, sampler, rows, self.state.step, run.last_step, self.ranks), self._to_profile()
                folder = run.layout.profiles(run.name)
                with closing(profiled(fed, steps, self.state.step, folder, self.ranks.device)) as batches:
                    self._measure_start()
                    for batch in batches:
                        self._step(batch)
        finally:
            self.writer.close()  # first, so that receivers find the last checkpoint complete
            for logger in self.loggers:
                logger.close()
        with self.ranks.phase("the last checkpoint"):
            self.writer.wait()
            self.ranks.run_on_rank0(lambda: write_average(run))
            self.ranks.run_on_rank0(lambda: self.store.prune(Retention(0, self.permanent)))
            last = self.ranks.run_on_rank0(lambda: self.store.open(run.last_step))
            signal_number = self.ranks.largest(self.stop.signal_number)
        if signal_number:
            self._interrupt(signal_number, f"stopped: {run.name} is complete; the same command continues with the rest")
        return last

    def _step(self, batch: StepBatch) -> None:
        """One row of the plan, from its batch to its checkpoint."""
        step, began = batch.step + 1, time.perf_counter()
        self._enter_stage(batch.step)
        with self.ranks.phase(f"the gradients of step {step}"):
            loss, z_loss, norm = self._accumulate(batch)
        self.writer.before_update()  # of the weights, or of their average alone
        if self.spikes is not None and batch.step in self.stage_ends:
            self.spikes.begin_stage()
        if self.state.scaler is not None and self._agree(batch, skip=self.state.scaler.overflows(loss, norm)):
            self._log(self._skip_overflow(self.state.scaler, batch))
        elif self.spikes is not None and self._agree(batch, skip=self.spikes.is_spike(loss, norm)):
            self._log(self._skip_spike(self.spikes, batch, loss, norm))
        else:
            if not math.isfinite(norm) or not math.isfinite(loss):
                self.ranks.raise_on_rank0(DivergedError(self._not_finite(batch, loss, norm)))
            with region("optimizer"):
                self.state.update(float(self.plan.lr[batch.step]), self._average_rate(step))
            if self.spikes is not None:
                self.spikes.updated(loss)
            self._log(self._step_record(batch, loss, z_loss, norm, time.perf_counter() - began))
        if self._due(self.recipe.evaluation.every):
            self._log(self._held_out_record())
        with self.ranks.phase(f"the agreement on signals after step {step}"):
            signal_number = self.ranks.largest(self.stop.signal_number)
        planned = self._due(self.recipe.checkpoints.every) or step in self.always
        if planned or signal_number or step in self.permanent:
            self._save(planned=planned, wait=signal_number > 0)
        if signal_number:
            text = f"stopped and saved at step {step} of {self.plan.steps}; the same command resumes from there"
            self._interrupt(signal_number, text)

    def _measure_start(self) -> None:
        """Log the held-out losses of an imported model before its first step, for later ones to be compared with."""
        if self.recipe.start is None or self.state.step > 0:
            return
        with self.ranks.phase("the start"):
            resumed = self.ranks.run_on_rank0(lambda: self.journal is None or bool(self.journal.head))
        if not resumed:
            self._enter_stage(0)
            self._log(self._held_out_record())

    def _held_out_record(self) -> HeldOutRecord:
        """Measure the held-out losses after the step just done."""
        step, model = self.state.step, self.state.model
        # Many rows may take longer than a collective waits.
        with self.ranks.phase(f"the held-out losses of step {step}"), self.ranks.patiently(), region("held-out losses"):
            losses = self.run.held_out_losses(model)
        tokens = self.plan.tokens_after(step)
        return HeldOutRecord(step=step, tokens=tokens, losses=losses, context=model.shape.context)

    def _enter_stage(self, row: int) -> None:
        """Give the model the shape that it has in a step's stage, and a pass about as many tokens as before."""
        shape = self.shapes[self.plan.stage[row]]
        self.state.model.shape = shape
        self.gradients.micro_batch = self.recipe.rows_of_pass(self.micro_batch, shape.context)

    def _accumulate(self, batch: StepBatch) -> tuple[float, float | None, float]:
        """Accumulate and clip the gradients; returns mean loss and z-loss of all ranks, and the gradients' norm."""
        weights, optimizer = self.state.weights.masters.values(), self.recipe.optimizer
        total, z_total = self.gradients(batch)
        with region("optimizer"):
            if self.state.scaler is not None:
                self.state.scaler.unscale(weights)
            norm = gradient_norm(weights)
            # The only time that the host waits.
            summed, z_sum, found = torch.stack([total, z_total, norm]).cpu().tolist()
            clip(weights, optimizer.clip, norm, found)
        own = [summed / batch.predicted, *limbs(batch.digest), optimizer.z_loss * z_sum / batch.predicted]
        loss, *parts, z_loss = self.ranks.sums(own)
        self.digest = from_limbs(parts)
        return loss, z_loss if optimizer.z_loss else None, found

    def _to_profile(self) -> range:
        """The steps to profile in this process: on the first rank, those that are asked for."""
        steps = self.run.profile
        if steps is None or not self.ranks.first:
            return range(0)
        if steps.stop - 1 <= self.state.step:
            _log.warning(
                "%s has done steps %d to %d already, so they are not profiled",
                self.run.name,
                steps.start,
                steps.stop - 1,
            )
        return steps

    def _average_rate(self, step: int) -> float:
        """How far the running average moves toward the weights between the steps done and `step`."""
        average, plan = self.recipe.average, self.plan
        before, after = (plan.tokens_after(done) - plan.tokens_after(0) for done in (self.state.step, step))
        return 0.0 if average is None else average.rate(before, after)

    def _agree(self, batch: StepBatch, *, skip: bool) -> bool:
        """Whether any rank would skip a step, which all ranks then do."""
        with self.ranks.phase(f"the agreement on the loss of step {batch.step + 1}"):
            return bool(self.ranks.largest(skip))

    def _skip_overflow(self, scaler: LossScaler, batch: StepBatch) -> OverflowRecord:
        """Skip the update of a step whose gradients overflowed, and halve the scale of the next."""
        scale, plan, row = scaler.state.scale, self.plan, batch.step
        scaler.skipped()
        self.state.skip(row + 1, self._average_rate(row + 1))
        return OverflowRecord(
            step=row + 1,
            stage=plan.stages[plan.stage[row]],
            tokens=plan.tokens_after(row + 1),
            scale=scale,
            counts=dict(zip(plan.corpora, plan.counts[row].tolist(), strict=True)),
            digest=self.digest,
        )

    def _skip_spike(self, spikes: SpikeWatch, batch: StepBatch, loss: float, norm: float) -> SpikeRecord:
        """Skip the update; if the policy says so, also those since the last planned checkpoint."""
        threshold, policy = spikes.threshold, self.recipe.spikes.policy
        if not spikes.skipped():
            self.ranks.raise_on_rank0(DivergedError(self._hopeless(batch, loss, norm)))
        if policy == "rollback-and-skip" and self.planned is not None:
            self._roll_back(spikes, self.planned)
        return SpikeRecord(
            step=batch.step + 1,
            stage=self.plan.stages[self.plan.stage[batch.step]],
            tokens=self.plan.tokens_after(batch.step + 1),
            loss=loss if math.isfinite(loss) else None,
            grad_norm=norm if math.isfinite(norm) else None,
            threshold=threshold,
            policy=policy,
            skipped=self.state.skip(batch.step + 1, self._average_rate(batch.step + 1)),
            rows=batch.named_rows(self.plan),
            digest=self.digest,
        )

    def _roll_back(self, spikes: SpikeWatch, planned: int) -> None:
        """Restore the last planned checkpoint, which may be the fork."""
        with self.ranks.phase(f"the rollback to step {planned}"):
            self.writer.wait()
            checkpoint = self.ranks.run_on_rank0(lambda: self.run.checkpoint(planned))
        self.state.restore(checkpoint)
        checkpoint.release()
        recorded = checkpoint.state.spikes
        spikes.roll_back(() if planned in self.stage_ends or recorded is None else recorded.losses)

    def _peak_flops(self) -> float:
        """FLOP/s of all devices; the first call measures."""
        return known_peak_flops(self.recipe.precision, self.ranks.device, self.threads) * self.ranks.count

    def _step_record(
        self, batch: StepBatch, loss: float, z_loss: float | None, norm: float, seconds: float
    ) -> StepRecord:
        plan, row = self.plan, batch.step
        speed = len(batch.rows.row) * int(plan.contexts[row]) / seconds
        stalled, self.stalled = self.stalled, 0.0
        return StepRecord(
            step=row + 1,
            stage=plan.stages[plan.stage[row]],
            tokens=plan.tokens_after(row + 1),
            loss=loss,
            z_loss=z_loss,
            lr=float(plan.lr[row]),
            grad_norm=norm,
            batch=int(plan.batch[row]),
            counts=dict(zip(plan.corpora, plan.counts[row].tolist(), strict=True)),
            seconds=round(seconds, 4),
            checkpoint_seconds=round(stalled, 4),
            tokens_per_second=round(speed, 1),
            mfu=round(speed * self.state.model.shape.flops_per_token / self._peak_flops(), 4),
            digest=self.digest,
            memory=most_memory(self.ranks.device),
        )

    def _due(self, every: int) -> bool:
        """Whether the step just done crossed a multiple of `every` tokens or ended a stage."""
        before, after = (self.plan.tokens_after(step) for step in (self.state.step - 1, self.state.step))
        return before // every != after // every or self.state.step in self.stage_ends

    def _save(self, *, planned: bool, wait: bool) -> None:
        """Begin to write a checkpoint; `planned` ones are those that spikes roll back to."""
        if planned:
            self.planned = self.state.step
        for logger in self.loggers:
            logger.flush()
        with self.ranks.phase(f"the checkpoint of step {self.state.step}"), region("checkpoint"):
            began = time.perf_counter()
            needed = self.planned if self.recipe.spikes.policy == "rollback-and-skip" else None
            chain = "" if self.journal is None else self.journal.head
            self.writer.save(self.state.tensors, self._checkpoint_state(), needed, chain)
            self.stalled += time.perf_counter() - began
            if wait:
                self.writer.wait()

    def _checkpoint_state(self) -> CheckpointState:
        """Everything that a checkpoint holds but tensors."""
        inputs = self.run.fingerprint_inputs(self.state.step)
        return CheckpointState(
            recipe=self.recipe.name,
            run=self.run.name,
            step=self.state.step,
            tokens=self.plan.tokens_after(self.state.step),
            fingerprint=inputs.fingerprint(self.state.skipped),
            fingerprint_inputs=inputs,
            torch_version=torch.__version__,
            ranks=self.ranks.count,
            threads=self.threads,
            micro_batch=self.micro_batch,
            moment_steps=self.state.moment_steps,
            skipped=self.state.skipped,
            loss_scale=None if self.state.scaler is None else self.state.scaler.state,
            spikes=None if self.spikes is None else self.spikes.state(self.planned),
        )

    def _open_loggers(self) -> list[Logger]:
        """Receivers of records, on the first rank."""
        run = self.run
        if not self.ranks.first:
            return []
        if run.replay_to is not None:  # the records of these steps are there
            return [*run.watch]
        chain = "" if self.fork is None else self.fork.chain
        self.journal = JsonlLogger(run.layout.metrics(run.name), self.state.step, chain)
        loggers: list[Logger] = [self.journal]
        if self.recipe.logging.tensorboard:
            loggers.append(TensorBoardLogger(run.layout.tensorboard(run.name), self.plan.tokens_after(self.state.step)))
        loggers += open_trackers(self.recipe, run.name, run.layout.trackers(run.name))
        return [*loggers, *run.watch, self.lifecycle]

    def _log(self, record: Record) -> None:
        for logger in self.loggers:
            logger.log(record)

    def _interrupt(self, signal_number: int, text: str) -> None:
        self.ranks.raise_on_rank0(Interrupted(signal_number, text))

    def _not_finite(self, batch: StepBatch, loss: float, norm: float) -> str:
        rows = ", ".join(batch.named_rows(self.plan))
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: not finite, stopped before "
            "the update; the last checkpoint is good. Lower optimizer.learning_rate.peak, set spikes.policy, or look "
            f"at the rows: {rows}"
        )

    def _hopeless(self, batch: StepBatch, loss: float, norm: float) -> str:
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: spike {MOST_IN_A_ROW} in a "
            "row, stopped before the update. The weights or the threshold are at fault, not the rows: lower "
            "optimizer.learning_rate.peak, raise spikes.sigmas, or delete the newest checkpoints to resume from an "
            "earlier one"
        )


def _build_gradients(recipe: Recipe, documents: Documents | None, state: TrainingState, micro_batch: int) -> Gradients:
    """What computes the gradients of a state, with some sequences in a pass."""
    return Gradients(
        state.model,
        micro_batch=micro_batch,
        documents=documents,
        compiled=recipe.hardware.compile,
        scaler=state.scaler,
        z_loss=recipe.optimizer.z_loss,
        gathered=state.gathered,
    )


def _documents(run: TrainingRun) -> Documents:
    """How attention stays inside documents; where an accelerator needs masks for it, a warning says why."""
    recipe, device = run.recipe, run.ranks.device
    reason = without_segments(device, DTYPES[recipe.precision], recipe.model.head_size)
    if reason is not None and device.type != "cpu" and run.ranks.first:
        _log.warning("document_masking: attention takes masks instead of segments, which is slower: %s", reason)
    return Documents(next(iter(run.corpora.values())).separator, segments=reason is None)


def _threads(run: TrainingRun, recorded: CheckpointState | None) -> int:
    """Threads of this process: as the recipe says, else as recorded for as many ranks, else all cores."""
    asked = run.recipe.hardware.threads
    if isinstance(asked, int):
        return asked
    same_ranks = recorded is not None and recorded.ranks == run.ranks.count
    return (recorded.threads if recorded and same_ranks else None) or max(1, available_cores() // run.ranks.per_node)
