"""The one training loop: it executes a span of a plan, whatever the stage or variant."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.engine import optimizer as adamw
from tinyllama.engine.checkpoint import (
    Checkpoint,
    latest,
    load_tensors,
    prune,
    save_checkpoint,
    steps_saved,
    stored_tensors,
    tensors_of,
    verify,
)
from tinyllama.engine.compute import Gradients
from tinyllama.engine.feeder import StepBatch, feed
from tinyllama.engine.fingerprint import facts_at, fingerprint, refuse_change
from tinyllama.engine.machine import cores, exclusive, measure_peak, require_space, reuse_memory
from tinyllama.engine.metrics import JsonlLogger, Logger, Record, TensorBoardLogger, WandbLogger
from tinyllama.engine.precision import MasterWeights
from tinyllama.engine.signals import StopRequest
from tinyllama.errors import CheckpointError, Interrupted, TrainingError
from tinyllama.model import Llama
from tinyllama.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe

_log = logging.getLogger(__name__)
BASE = "base"


@dataclass(frozen=True)
class Run:
    """One span of a plan to train: the shared base, or one variant from the fork on."""

    recipe: Recipe
    plan: Plan
    family: Path
    """Folder of the whole family."""
    corpora: Mapping[str, PreparedCorpus]
    tokenizer_sha256: str
    held_out_losses: Callable[[Llama], dict[str, float]]
    """Measures the model on held-out rows; injected, so that training knows no evaluation."""
    watch: list[Logger] = field(default_factory=list)
    """Further receivers of every record, e.g. a progress bar."""
    start_sha256: str | None = None
    """Of the imported weights, if the recipe starts from some."""

    @property
    def name(self) -> str:
        """`base` or the variant's name."""
        return self.plan.variant or BASE

    @property
    def folder(self) -> Path:
        """Where the run's checkpoints and metrics are."""
        return self.family / self.name

    @property
    def first_step(self) -> int:
        """Where the run begins: 0, or the fork."""
        return self.plan.fork_step if self.plan.variant else 0

    def facts(self, step: int) -> dict[str, Any]:
        """What decides the state after `step` steps."""
        hashes = {name: corpus.sha256 for name, corpus in self.corpora.items()}
        return facts_at(self.recipe, self.plan, step, hashes, self.tokenizer_sha256, self.start_sha256)


def find_start(run: Run) -> Checkpoint | None:
    """The checkpoint a run goes on from: its newest good one, else the fork of the base, else None.

    Raises:
        CheckpointError: it belongs to another recipe, the base of a variant is not finished, or the model that
            the recipe starts from is not imported.
    """
    for found in latest(run.folder / "checkpoints"):
        if isinstance(found, Checkpoint):
            refuse_change(found.state["facts"], run.facts(found.step), str(found.folder))
            if found.step > run.plan.steps:
                raise CheckpointError(f"{found.folder} is past the end of the plan ({run.plan.steps} steps)")
            return found
        _log.warning("%s; taking the one before it", found)
    if run.plan.variant is None:
        if run.recipe.start is not None:
            raise CheckpointError(f"{run.folder}: the model to start from is not here; run `tinyllama import` first")
        return None
    fork = run.family / BASE / "checkpoints" / f"step-{run.first_step}"
    if not fork.is_dir():
        raise CheckpointError(f"{fork}: the shared base is not finished; train it first, or copy it here")
    checkpoint = verify(fork)
    refuse_change(checkpoint.state["facts"], run.facts(run.first_step), str(fork))
    return checkpoint


def is_finished(run: Run) -> bool:
    """Whether the run's last checkpoint is there (its recipe is compared when it is opened)."""
    return run.plan.steps in steps_saved(run.folder / "checkpoints")


def train(run: Run) -> Checkpoint:
    """Train a run to its end, from wherever it stands.

    Returns:
        Its last checkpoint.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state was saved first.
        TrainingError: a gradient is not finite, the disk is too small, or the folder is in use.
        CheckpointError: the checkpoint to go on from belongs to another recipe.
    """
    with exclusive(run.folder):
        start = find_start(run)
        if start is not None and start.step == run.plan.steps:
            return start
        with StopRequest() as stop:
            return _Trainer(run, start, stop).run_to_end()


class _Trainer:
    """State of a run in this process: weights, moments, step."""

    def __init__(self, run: Run, start: Checkpoint | None, stop: StopRequest) -> None:
        recipe = run.recipe
        recorded = start.state if start is not None else {}
        self.run, self.stop = run, stop
        self.step = start.step if start is not None else 0
        self.threads = _or_auto(recipe.hardware.threads, recorded.get("threads"), cores())
        self.micro_batch = _or_auto(recipe.hardware.micro_batch, recorded.get("micro_batch"), _micro_batch(recipe))
        torch.set_num_threads(self.threads)
        reuse_memory()
        self.model = Llama(recipe.model)
        self.model.initialise(recipe.seed)
        self.weights = MasterWeights(self.model, recipe.precision)
        self.optimizer = adamw.build_optimizer(recipe.optimizer, self.weights.masters)
        self.tensors = tensors_of(self.weights.masters, self.optimizer)
        if start is not None:
            load_tensors(start, stored_tensors(start, self.tensors))
        self.moment_steps = recorded.get("moment_steps", 0)
        adamw.set_step(self.optimizer, self.moment_steps + self.step)
        self.weights.publish()
        masked = recipe.document_masking
        self.gradients = Gradients(
            self.model,
            micro_batch=self.micro_batch,
            document_bos=next(iter(run.corpora.values())).manifest["bos_id"] if masked else None,
            compiled=recipe.hardware.compile,
        )
        self.peak = measure_peak(recipe.precision)
        self.stage_ends = {end for _, _, end in run.plan.stage_steps()}
        # An imported model is the step-0 checkpoint; variants may fork from it at any later time.
        self.kept = self.stage_ends | ({0} if recipe.start is not None else set())

    def run_to_end(self) -> Checkpoint:
        """Execute the plan from the current step on."""
        run, plan = self.run, self.run.plan
        size = 3 * 4 * run.recipe.model.parameters
        require_space(run.folder, size * (run.recipe.checkpoints.keep + len(self.stage_ends) + 1), "checkpoints")
        rows = {name: run.corpora[name].rows("train", plan.context) for name in plan.corpora}
        sampler = Sampler(plan, run.recipe.seed, {name: len(part) for name, part in rows.items()})
        loggers = self._loggers()
        try:
            saved = None
            for batch in feed(plan, sampler, rows, self.step, plan.steps):
                for record in self._one_step(batch):
                    for logger in loggers:
                        logger.log(record)
                if self._checkpoint_due() or self.stop.signal_number:
                    for logger in loggers:
                        logger.flush()
                    saved = self._save()
                if self.stop.signal_number:
                    raise Interrupted(
                        self.stop.signal_number,
                        f"stopped at step {self.step} of {plan.steps}, saved in {saved}; the same command goes on",
                    )
        finally:
            for logger in loggers:
                logger.close()
        prune(run.folder / "checkpoints", 0, self.kept)
        return verify(run.folder / "checkpoints" / f"step-{plan.steps}")

    def _loggers(self) -> list[Logger]:
        run, logging_keys = self.run, self.run.recipe.logging
        loggers: list[Logger] = [JsonlLogger(run.folder / "metrics.jsonl", self.step)]
        if logging_keys.tensorboard:
            loggers.append(TensorBoardLogger(run.folder / "tensorboard", run.plan.tokens_after(self.step)))
        if logging_keys.wandb is not None:
            loggers.append(WandbLogger(run.recipe, logging_keys.wandb, run.name))
        return loggers + run.watch

    def _one_step(self, batch: StepBatch) -> Iterator[Record]:
        """One optimizer step, and a held-out measurement where one is due."""
        plan, began = self.run.plan, time.perf_counter()
        loss = self.gradients(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.masters.values(), self.run.recipe.optimizer.clip))
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise TrainingError(self._not_finite(batch, loss, norm))
        adamw.apply(self.optimizer, float(plan.lr[batch.step]))
        self.weights.publish()
        self.step = batch.step + 1
        seconds = time.perf_counter() - began
        speed = batch.inputs.numel() / seconds
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
            "tokens_per_second": round(speed, 1),
            "utilisation": round(speed * self.run.recipe.model.flops_per_token / self.peak, 4),
        }
        if self._due(self.run.recipe.evaluation.every):
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
        return self._due(self.run.recipe.checkpoints.every)

    def _save(self) -> Path:
        run, facts = self.run, self.run.facts(self.step)
        state = {
            "recipe": run.recipe.name,
            "run": run.name,
            "step": self.step,
            "tokens": run.plan.tokens_after(self.step),
            "fingerprint": fingerprint(facts),
            "facts": facts,
            "ranks": 1,
            "threads": self.threads,
            "micro_batch": self.micro_batch,
            "moment_steps": self.moment_steps,
            "torch": torch.__version__,
        }
        folder = run.folder / "checkpoints"
        path = save_checkpoint(folder, self.step, self.tensors, state)
        prune(folder, run.recipe.checkpoints.keep, self.kept)
        return path

    def _not_finite(self, batch: StepBatch, loss: float, norm: float) -> str:
        names = [self.run.plan.corpora[index] for index in batch.rows.corpus.tolist()]
        rows = ", ".join(f"{n}:{row}" for n, row in zip(names, batch.rows.row.tolist(), strict=True))
        return (
            f"{self.run.name}, step {batch.step + 1}: loss {loss}, gradient norm {norm}: not finite, stopped before "
            f"the update; the last checkpoint is good. Lower optimizer.learning_rate.peak, or look at the rows: {rows}"
        )


def _or_auto(asked: int | str, recorded: int | None, chosen: int) -> int:
    """What the recipe says; `auto` repeats what the checkpoint records, else takes what suits this machine."""
    return asked if isinstance(asked, int) else recorded or chosen


def _micro_batch(recipe: Recipe) -> int:
    """About 8,192 tokens a pass keep the cores busy without filling memory."""
    return max(1, 8192 // recipe.model.context)
