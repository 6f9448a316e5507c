"""Keys that change no weight: where it runs, what is saved, measured and logged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tinyllama.errors import RecipeError
from tinyllama.recipe.section import PositiveCount, Section


class Hardware(Section):
    """How to run; nothing here changes which rows are seen."""

    micro_batch: PositiveCount | Literal["auto"] = "auto"
    """Sequences per forward pass; `auto` takes about 8,192 tokens."""
    threads: PositiveCount | Literal["auto"] = "auto"
    """Threads of a process on a CPU; `auto` divides the cores among a machine's processes."""
    compile: bool = True
    """Whether torch.compile compiles the blocks."""
    shard: Literal["node", "all", "none"] | PositiveCount = "node"
    """Ranks that one copy of weights, gradients and moments is divided among.
    `node` is the ranks of a node, `all` every rank, `none` one. Groups of that many ranks are replicas."""
    activation_checkpointing: bool = False
    """Whether to keep only the input of each block for the backward pass, and recompute the rest."""
    local_copies: str | None = None
    """Folder on a local disk that shards are copied to during training, for corpora on network storage.
    `$VARIABLE` is replaced by the environment's."""
    collective_timeout: PositiveCount = 600
    """Seconds after which ranks stop waiting for another and name it."""

    def sharded_over(self, ranks: int, ranks_per_node: int) -> int:
        """How many ranks share one copy of the state.

        Raises:
            RecipeError: that number does not divide the ranks.
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
    """When to save and how much to keep; stage ends are always kept."""

    every: PositiveCount
    """Tokens between checkpoints."""
    keep: PositiveCount = 2
    """Checkpoints that are kept, beside permanent ones and those at stage ends."""
    permanent: PositiveCount | None = None
    """Tokens between checkpoints that are never deleted."""
    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://.")] | None = None
    """Where checkpoints are stored instead of the family's folder: a URL of any fsspec file system (`s3://…`)."""


class Evaluation(Section):
    """What is measured during and after training."""

    every: PositiveCount
    """Tokens between measurements of the held-out losses during training."""
    rows: PositiveCount = 32
    """Held-out rows per corpus in each of these measurements.
    The final bits per byte use every row."""
    tasks: list[str] = Field(default=["commonsense"])
    """Tasks, or groups of tasks, that every model is evaluated on."""
    tasks_every: PositiveCount | None = None
    """Tokens between task scores during training, measured in the background; without it, tasks run only afterwards."""
    data: str = "data/eval"
    """Folder with local copies of the tasks' data."""
    prompts: list[str] = Field(default=[])
    """Prompts that every model continues in the report."""


class Logging(Section):
    """Where metrics go beside metrics.jsonl."""

    tensorboard: bool = True
    """Whether to write TensorBoard events into each model's folder."""
    wandb: str | None = None
    """Weights & Biases project that also gets the metrics (extra `wandb`)."""
