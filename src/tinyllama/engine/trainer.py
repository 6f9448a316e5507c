"""The one training loop: it executes a span of a plan, whatever the stage or variant."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from tinyllama.engine import optimizer as adamw
from tinyllama.engine.checkpoint import (
    Checkpoint,
    load_tensors,
    prune,
    stored_tensors,
    tensors_of,
    verify,
)
from tinyllama.engine.compute import Gradients, compile_blocks
from tinyllama.engine.feeder import StepBatch, feed
from tinyllama.engine.fingerprint import difference, fingerprint
from tinyllama.engine.machine import cores, exclusive, measure_peak, require_space, reuse_memory
from tinyllama.engine.metrics import JsonlLogger, Logger, Record, TensorBoardLogger, WandbLogger
from tinyllama.engine.parallel import checkpoint_activations, shard, whole
from tinyllama.engine.precision import MasterWeights
from tinyllama.engine.run import Run, find_start, keep_recipe
from tinyllama.engine.saving import CheckpointWriter
from tinyllama.engine.signals import StopRequest
from tinyllama.errors import Interrupted, TrainingError
from tinyllama.model import Llama
from tinyllama.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.engine.ranks import Ranks
    from tinyllama.recipe import Recipe


def train(run: Run) -> Checkpoint:
    """Train a run to its end, from wherever it stands.

    Returns:
        Its last checkpoint.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came to any rank; the state was saved first.
        RankLostError: another rank died or hangs.
        TrainingError: a gradient is not finite, the disk is too small, or the folder is in use.
        CheckpointError: the checkpoint to go on from belongs to another recipe.
    """
    ranks = run.ranks
    with ExitStack() as held:
        with ranks.during("the start"):
            ranks.on_first(lambda: held.enter_context(exclusive(run.folder)))
            start = ranks.on_first(lambda: find_start(run))
            step = start.step if start is not None else run.first_step
            differing = difference(ranks.gather({"steps": run.plan.steps, "from step": step, **run.facts(step)}))
        if differing is not None:
            raise ranks.told_once(TrainingError(differing))
        ranks.on_first(lambda: keep_recipe(run.family, run.recipe))
        if start is not None and start.step == run.plan.steps:
            return start
        with StopRequest() as stop:
            return _Trainer(run, start, stop).run_to_end()


class _Trainer:
    """State of a run in this process: weights, moments, step."""

    def __init__(self, run: Run, start: Checkpoint | None, stop: StopRequest) -> None:
        recipe = run.recipe
        recorded = start.state if start is not None else {}
        self.run, self.stop, self.ranks = run, stop, run.ranks
        self.step = start.step if start is not None else 0
        same_ranks = recorded.get("ranks") == self.ranks.count
        threads = max(1, cores() // self.ranks.per_node)
        self.threads = _or_auto(recipe.hardware.threads, recorded.get("threads") if same_ranks else None, threads)
        self.micro_batch = _or_auto(recipe.hardware.micro_batch, recorded.get("micro_batch"), recipe.micro_batch)
        torch.set_num_threads(self.threads)
        reuse_memory()
        with self.ranks.during("the division of the model"):
            self.model, self.weights = _build_model(recipe, self.ranks)
        self.optimizer = adamw.build_optimizer(recipe.optimizer, self.weights.masters)
        self.tensors = tensors_of(self.weights.masters, self.optimizer)
        if start is not None:
            with self.ranks.during("the loading of a checkpoint"):
                load_tensors(start, stored_tensors(start, self.tensors), self.ranks)
        self.moment_steps = recorded.get("moment_steps", 0)
        """Updates that imported moments had seen before step 0."""
        adamw.set_step(self.optimizer, self.moment_steps + self.step)
        self.weights.publish()
        masked = recipe.document_masking
        self.gradients = Gradients(
            self.model,
            micro_batch=self.micro_batch,
            document_bos=next(iter(run.corpora.values())).manifest["bos_id"] if masked else None,
            compiled=recipe.hardware.compile,
        )
        self.peak = measure_peak(recipe.precision, self.ranks.device)
        self.stage_ends = {end for _, _, end in run.plan.stage_steps()}
        permanent = recipe.checkpoints.permanent
        # An imported model is the step-0 checkpoint; variants may fork from it at any later time.
        imported = {0} if recipe.start is not None else set()
        self.kept = self.stage_ends | imported | (run.plan.steps_crossing(permanent) if permanent else set())
        """Steps whose checkpoints stay."""
        self.writer = CheckpointWriter(run.folder / "checkpoints", recipe.checkpoints.keep, self.kept, self.ranks)
        self.stalled = 0.0
        """Seconds that training stood still for a checkpoint since the last record."""

    def run_to_end(self) -> Checkpoint:
        """Execute the plan from the current step on."""
        run, plan = self.run, self.run.plan
        size = 3 * 4 * run.recipe.model.parameters
        size *= run.recipe.checkpoints.keep + len(self.stage_ends) + 1
        self.ranks.on_first(lambda: require_space(run.folder, size, "checkpoints"))
        rows = {name: run.corpora[name].rows("train", plan.context) for name in plan.corpora}
        sampler = Sampler(plan, run.recipe.seed, {name: len(part) for name, part in rows.items()})
        loggers = self._loggers()
        try:
            for batch in feed(plan, sampler, rows, self.step, plan.steps, self.ranks):
                for record in self._one_step(batch):
                    for logger in loggers:
                        logger.log(record)
                with self.ranks.during(f"the agreement on step {self.step}"):
                    signal_number = self.ranks.largest(self.stop.signal_number)
                if self._checkpoint_due() or signal_number:
                    for logger in loggers:
                        logger.flush()
                    with self.ranks.during(f"the checkpoint of step {self.step}"):
                        self._save()
                        if signal_number:
                            self.writer.wait()
                if signal_number:
                    text = f"stopped and saved at step {self.step} of {plan.steps}; the same command goes on"
                    raise self.ranks.told_once(Interrupted(signal_number, text))
        finally:
            self.writer.close()  # first, so that receivers find the last checkpoint complete
            for logger in loggers:
                logger.close()
        with self.ranks.during("the last checkpoint"):
            self.writer.wait()
            self.ranks.on_first(lambda: prune(run.folder / "checkpoints", 0, self.kept))
            last = self.ranks.on_first(lambda: verify(run.folder / "checkpoints" / f"step-{plan.steps}"))
            signal_number = self.ranks.largest(self.stop.signal_number)
        if signal_number:
            text = f"stopped: {run.name} is complete; the same command goes on with what comes after it"
            raise self.ranks.told_once(Interrupted(signal_number, text))
        return last

    def _loggers(self) -> list[Logger]:
        """Receivers of records, on the first rank."""
        run, logging_keys = self.run, self.run.recipe.logging
        if not self.ranks.first:
            return []
        loggers: list[Logger] = [JsonlLogger(run.folder / "metrics.jsonl", self.step)]
        if logging_keys.tensorboard:
            loggers.append(TensorBoardLogger(run.folder / "tensorboard", run.plan.tokens_after(self.step)))
        if logging_keys.wandb is not None:
            loggers.append(WandbLogger(run.recipe, logging_keys.wandb, run.name))
        return loggers + run.watch

    def _one_step(self, batch: StepBatch) -> Iterator[Record]:
        """One optimizer step, and a held-out measurement where one is due."""
        plan, began = self.run.plan, time.perf_counter()
        stalled, self.stalled = self.stalled, 0.0
        with self.ranks.during(f"the gradients of step {batch.step + 1}"):
            loss = self.ranks.sum(self.gradients(batch))
            clip = self.run.recipe.optimizer.clip
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self.weights.masters.values(), clip)))
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise self.ranks.told_once(TrainingError(self._not_finite(batch, loss, norm)))
        adamw.apply(self.optimizer, float(plan.lr[batch.step]))
        self.weights.publish()
        self.step = batch.step + 1
        seconds = time.perf_counter() - began
        speed = len(batch.rows.row) * plan.context / seconds
        yield {
            "kind": "step",
            "step": self.step,
            "stage": plan.stages[plan.stage[batch.step]],
            "tokens": plan.tokens_after(self.step),
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
            with self.ranks.during(f"the held-out losses of step {self.step}"):
                losses = self.run.held_out_losses(self.model)
            yield {
                "kind": "held_out",
                "step": self.step,
                "tokens": plan.tokens_after(self.step),
                "losses": losses,
            }

    def _due(self, every: int) -> bool:
        """Whether the step just done crossed a multiple of `every` tokens or ended a stage."""
        before, after = (self.run.plan.tokens_after(step) for step in (self.step - 1, self.step))
        return before // every != after // every or self.step in self.stage_ends

    def _checkpoint_due(self) -> bool:
        return self._due(self.run.recipe.checkpoints.every) or self.step in self.kept

    def _save(self) -> None:
        began = time.perf_counter()
        run, facts = self.run, self.run.facts(self.step)
        state = {
            "recipe": run.recipe.name,
            "run": run.name,
            "step": self.step,
            "tokens": run.plan.tokens_after(self.step),
            "fingerprint": fingerprint(facts),
            "facts": facts,
            "ranks": self.ranks.count,
            "threads": self.threads,
            "micro_batch": self.micro_batch,
            "moment_steps": self.moment_steps,
            "torch": torch.__version__,
        }
        self.writer.save(self.step, self.tensors, state)
        self.stalled += time.perf_counter() - began

    def _not_finite(self, batch: StepBatch, loss: float, norm: float) -> str:
        names = [self.run.plan.corpora[index] for index in batch.rows.corpus.tolist()]
        rows = ", ".join(f"{n}:{row}" for n, row in zip(names, batch.rows.row.tolist(), strict=True))
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: not finite, stopped before "
            f"the update; the last checkpoint is good. Lower optimizer.learning_rate.peak, or look at the rows: {rows}"
        )


def _build_model(recipe: Recipe, ranks: Ranks) -> tuple[Llama, MasterWeights]:
    """The initial model, and its fp32 weights: whole in one process, this rank's parts on several."""
    model = Llama(recipe.model)
    model.initialise(recipe.seed)
    if recipe.hardware.compile:
        compile_blocks(model)
    if recipe.hardware.activation_checkpointing:
        checkpoint_activations(model)
    if ranks.count == 1:
        return model, MasterWeights(model.to(ranks.device), recipe.precision)
    shard(model, recipe, ranks)
    return model, MasterWeights(model, "fp32")  # FSDP2 rounds them where it gathers them


def _or_auto(asked: int | str, recorded: int | None, chosen: int) -> int:
    """What the recipe says; `auto` repeats what the checkpoint records, else takes what suits this machine."""
    return asked if isinstance(asked, int) else recorded or chosen
