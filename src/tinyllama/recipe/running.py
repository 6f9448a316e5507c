"""Keys that do not affect the weights: hardware, checkpoints, evaluation and logging."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tinyllama.errors import RecipeError
from tinyllama.recipe.quantities import LARGEST_BATCH, Flag
from tinyllama.recipe.section import PathText, PositiveCount, Section, count_or
from tinyllama.text import shown

MEASURED = "measured"
"""The micro-batch that takes the least time."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\0\n]+")
_WEBHOOK = re.compile(r"(?:https?://|\$)[^\s\0]+")
_DEVICE = re.compile("auto|cpu|(cuda|xpu)(:[0-9]{1,3})?|mps")
_MOST_THREADS = 4096
"""More make the system refuse to start one, which ends the process."""
_MOST_RANKS = 2**20
_YEAR = 365 * 86_400
"""Seconds; timers end with an error a few powers of ten above it."""


def _address(url: str) -> str:
    if not _ADDRESS.fullmatch(url):
        raise ValueError(f"{shown(url)} is no URL; write it like s3://bucket/folder")
    return url


def _webhook(url: str | None) -> str | None:
    if url is not None and not _WEBHOOK.fullmatch(url):  # the message does not show it, since it may be a secret
        raise ValueError("is no URL of a receiver; write one that begins with https://, or a variable such as $WEBHOOK")
    return url


def _device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise ValueError(f"{shown(name)} is no device; write auto, cpu, cuda, cuda:1, xpu or mps")
    return name


class Hardware(Section):
    """How training runs; no key affects the rows that training sees."""

    micro_batch: Annotated[int | Literal["auto", "measured"], count_or("auto", MEASURED, most=LARGEST_BATCH)] = "auto"
    """Sequences per forward pass; `auto` takes as many as fit in a GPU's free memory, on CPUs about 8,192 tokens.
    `measured` times that many, half and a quarter before the first step, and takes the fastest. A resumed run keeps
    its number, on GPUs if the number of ranks is the same."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """What computes: `cpu`, `cuda`, `xpu`, `mps`, or one of several cards, such as `cuda:1`.
    `auto` chooses an accelerator if there is one. Several processes take one card each."""
    threads: Annotated[int | Literal["auto"], count_or("auto", most=_MOST_THREADS)] = "auto"
    """CPU threads per process; `auto` divides the cores among a machine's processes."""
    compile: Flag = True
    """Whether to compile the blocks with torch.compile."""
    shard: Annotated[Literal["node", "all", "none"] | int, count_or("node", "all", "none", most=_MOST_RANKS)] = "node"
    """Number of ranks that shard one copy of weights, gradients and moments.
    `node` means the ranks of a node, `all` every rank, `none` one rank. Groups of this size are replicas."""
    activation_checkpointing: Flag = False
    """Whether to save only the input of each block for the backward pass and recompute the rest."""
    local_copies: PathText | None = None
    """Folder on a local disk to which training copies shards, for corpora on network storage.
    `$VARIABLE` is replaced by the environment variable's value."""
    collective_timeout: Annotated[PositiveCount, Field(le=_YEAR)] = 600
    """Seconds after which ranks stop waiting for an unresponsive rank and report it."""

    def sharded_over(self, ranks: int, ranks_per_node: int) -> int:
        """Number of ranks that share one copy of the state.

        Raises:
            RecipeError: this number does not divide the number of ranks.
        """
        sizes = {"node": ranks_per_node, "all": ranks, "none": 1}
        size = sizes[self.shard] if isinstance(self.shard, str) else self.shard
        if ranks % size:
            raise RecipeError(
                f"hardware.shard: {self.shard} means groups of {size} ranks, which do not divide {ranks} ranks; "
                f"give a divisor of {ranks}, or all"
            )
        return size


class Checkpoints(Section):
    """When to save and how many checkpoints to keep; checkpoints at stage ends are always kept."""

    every: PositiveCount
    """Tokens between checkpoints."""
    keep: PositiveCount = 2
    """Number of recent checkpoints to keep, in addition to permanent ones and those at stage ends."""
    permanent: PositiveCount | None = None
    """Tokens between checkpoints that are never deleted."""
    url: Annotated[str, AfterValidator(_address)] | None = None
    """Where checkpoints are stored instead of the family's folder: a URL of any fsspec file system (`s3://…`)."""


class Evaluation(Section):
    """Measurements during and after training."""

    every: PositiveCount
    """Tokens between measurements of the held-out losses during training."""
    rows: PositiveCount = 32
    """Held-out rows per corpus in each of these measurements.
    The final bits per byte use every row."""
    tasks: list[str] = Field(default=["commonsense"])
    """Tasks, or groups of tasks, to evaluate every model on."""
    tasks_every: PositiveCount | None = None
    """Tokens between background task evaluations during training; if unset, tasks run only after training."""
    data: PathText = "data/eval"
    """Folder with local copies of the tasks' data; what is not there is fetched from the Hugging Face hub."""
    prompts: list[str] = Field(default=[])
    """Prompts that every model continues in the report."""
    samples_every: PositiveCount | None = None
    """Tokens between background continuations of the prompts during training; if unset, only the report has some."""


class Logging(Section):
    """Destinations of metrics in addition to metrics.jsonl."""

    tensorboard: Flag = True
    """Whether to write TensorBoard events into each model's folder."""
    wandb: str | None = None
    """Weights & Biases project that also receives the metrics (extra `wandb`)."""
    trackio: str | None = None
    """Trackio project that also receives the metrics (extra `trackio`)."""
    mlflow: str | None = None
    """MLflow experiment that also receives the metrics (extra `mlflow`)."""
    notify: Annotated[str | None, AfterValidator(_webhook), Field(exclude=True, repr=False)] = None
    """URL that gets a JSON message at a loss spike, a failure and the end of each model's training.
    `$VARIABLE` is replaced by the environment variable's value. Nothing that is written contains the URL."""
