"""Keys that change no weight: hardware, checkpoints, evaluation and logging."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tinyllama.errors import RecipeError
from tinyllama.recipe.section import PositiveCount, Section


class Hardware(Section):
    """How training runs; no key changes which rows are seen."""

    micro_batch: PositiveCount | Literal["auto"] = "auto"
    """Sequences per forward pass."""
    threads: PositiveCount | Literal["auto"] = "auto"
    compile: bool = True
    shard: Literal["node", "all", "none"] | PositiveCount = "node"
    """Ranks that weights, gradients and moments are divided among; groups of so many are replicas of each other."""
    activation_checkpointing: bool = False
    """Keep only the input of each block for the backward pass, and compute the rest again."""
    local_copies: str | None = None
    """Folder on a local disk that shards are copied to during training, where corpora are on network storage;
    `$VARIABLE` is replaced by the environment's."""
    collective_timeout: PositiveCount = 600
    """Seconds after which ranks that wait for another give up."""

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
    """Tokens."""
    keep: PositiveCount = 2
    permanent: PositiveCount | None = None
    """Tokens between checkpoints that are never deleted."""
    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://.")] | None = None
    """Where checkpoints are kept instead of the family's folder: a URL of any fsspec file system (`s3://…`)."""


class Evaluation(Section):
    """What is measured during and after training."""

    every: PositiveCount
    """Tokens between held-out losses during training."""
    rows: PositiveCount = 32
    """Held-out rows per corpus for those (the final matrix uses every row)."""
    tasks: list[str] = Field(default=["commonsense"])
    tasks_every: PositiveCount | None = None
    """Tokens between task scores during training, measured in the background; null: only after it."""
    data: str = "data/eval"
    """Folder with local copies of the tasks' data."""
    prompts: list[str] = Field(default=[])
    """Prompts that every model continues in the report."""


class Logging(Section):
    """Where metrics go beside metrics.jsonl."""

    tensorboard: bool = True
    wandb: str | None = None
    """A Weights & Biases project (needs the `wandb` extra)."""
