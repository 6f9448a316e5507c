"""`state.json` of a checkpoint: everything but tensors, with one reader and one writer."""

from __future__ import annotations

import json
from typing import ClassVar, Literal

from tinyllama.checkpoint.fingerprint import FingerprintInputs
from tinyllama.checkpoint.legacy import upgraded_state
from tinyllama.errors import CheckpointError
from tinyllama.record_files import FileRecord, parse_object, parse_record

DAMAGED = "the checkpoint is damaged"
Span = tuple[int, int]
"""The first and the last of some consecutive steps, counted from 1."""


class SpikeState(FileRecord):
    """What the watch for loss spikes needs to resume exactly."""

    losses: tuple[float, ...]
    """Of the last updates of the stage, in nats, oldest first."""
    in_a_row: int
    """Spikes since the last update."""
    planned: int | None = None
    """Step of the last checkpoint that was planned, to which the weights roll back; None before the first."""


class LossScale(FileRecord):
    """What dynamic loss scaling needs to resume exactly."""

    scale: float
    """That the next step's loss is multiplied by."""
    updates: int
    """Since the scale was last changed."""


class CheckpointState(FileRecord):
    """All state of a training run but the tensors; keys with a default are absent where they do not apply."""

    FORMAT: ClassVar[int] = 2

    format: int = FORMAT
    """Number of the file's format; 4bd9be0 wrote none."""
    recipe: str
    """The recipe's name."""
    run: str
    """The model: `base` or a variant's name."""
    step: int
    """Steps of the plan that are done."""
    tokens: int
    """Tokens seen."""
    fingerprint: str
    """Of the inputs and the skipped steps."""
    fingerprint_inputs: FingerprintInputs
    """What decides these weights."""
    torch_version: str
    """The torch that wrote it."""
    ranks: int | None = None
    """Processes that trained it."""
    threads: int | None = None
    """Of each process."""
    micro_batch: int | None = None
    """Sequences in one pass."""
    moments: Literal["fresh", "kept"] | None = None
    """Of an imported model: `fresh` ones are not in the checkpoint and begin at zero; None for a trained one.
    An average of weights has none either: `fresh`."""
    mean_of: tuple[int, ...] | None = None
    """Of an average of weights: the steps of the checkpoints that it was made of."""
    moment_steps: int = 0
    """Updates that the moments have seen, less the steps done."""
    skipped: tuple[Span, ...] = ()
    """Steps whose updates were skipped as loss spikes, or since fp16 gradients overflowed."""
    loss_scale: LossScale | None = None
    """None if the loss was not scaled."""
    spikes: SpikeState | None = None
    """None if spikes were not watched."""
    origin: str | None = None
    """Of an imported model: what the user named."""

    @property
    def has_moments(self) -> bool:
        """Whether the checkpoint holds the optimizer's moments."""
        return self.moments != "fresh"

    def to_json(self) -> str:
        """The file's text."""
        value = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def parse_state(text: str | bytes, file: str) -> CheckpointState:
    """A checkpoint's state from the text of its file, of this or an older format.

    Args:
        text: of the file.
        file: what messages call it.

    Raises:
        CheckpointError: a key is missing or of another type, or a later version wrote the file; names file and key.
    """
    value = parse_object(text, file, CheckpointError, DAMAGED)
    if "format" not in value:
        value = upgraded_state(value, CheckpointState.FORMAT)
    return parse_record(CheckpointState, value, file, CheckpointError, DAMAGED)
