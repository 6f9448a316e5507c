"""The one tree of exceptions.

TinyLlamaError                our fault: exit code 1
├── Interrupted               a signal ended the run after a checkpoint: exit code 128 + its number
├── RankLostError             another rank of the run died or hangs
├── WorkerLostError           a process that prepares a corpus was killed
└── UserError                 a user's mistake: exit code 2, shown without a traceback
    ├── RecipeError           a recipe file: file, line and key
    ├── PlanError             a recipe that is valid but cannot be planned
    ├── PreflightError        everything that would end a run later, a line for each fault
    ├── CorpusError           documents, shards, manifests, tokenizers
    ├── SourceError           a text source that is unavailable (client or file missing)
    ├── CheckpointError       a checkpoint that is damaged or belongs to another recipe
    ├── StorageError          a URL for checkpoints that cannot be reached, read or written
    ├── TrainingError         training that cannot start or continue
    │   └── DivergedError     a loss or gradient that is not finite, or too many spikes in a row
    ├── NewerFormatError      a file that a later version of tinyllama wrote
    ├── EvaluationError       an evaluation's data or model
    ├── ExportError           an export's target or its parity check
    ├── PublishError          a folder that cannot be uploaded, or a hub that refuses it
    └── ModelError            a folder or run that holds no model we can load
"""

from __future__ import annotations


class TinyLlamaError(Exception):
    """Root of the tree; exit code 1."""

    exit_code = 1


class Interrupted(TinyLlamaError):  # noqa: N818  # not an error; the user or the machine asked for it
    """A signal asked to stop; the state was saved, and the same command resumes."""

    def __init__(self, signal_number: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = 128 + signal_number


class RankLostError(TinyLlamaError):
    """Another rank died or hangs; names it, and what was being done."""


class WorkerLostError(TinyLlamaError):
    """A process that prepares a corpus was killed; what was finished is kept."""


class UserError(TinyLlamaError):
    """What was given is wrong; the text says what, where, and what to do. Exit code 2."""

    exit_code = 2


class NewerFormatError(UserError):
    """A later version of tinyllama wrote a file; no other error, so that nobody takes the file for a damaged one."""

    def __init__(self, file: object, written: int, newest: int) -> None:
        super().__init__(
            f"{file}: format: {written} was written by a later version of tinyllama (this one reads up to {newest}); "
            "upgrade tinyllama"
        )


class RecipeError(UserError):
    """A recipe is wrong; names file, line and key."""


class PlanError(UserError):
    """A valid recipe cannot be compiled into a plan."""


class PreflightError(UserError):
    """What would end a run hours after its start; the text has a line for each fault."""


class CorpusError(UserError):
    """Documents, shards, a manifest or a tokenizer are wrong."""


class SourceError(UserError):
    """A source of text is unavailable; names the client or file that is missing."""


class CheckpointError(UserError):
    """A checkpoint is damaged or belongs to another recipe."""


class StorageError(UserError):
    """A URL for checkpoints cannot be reached, read or written; says nothing about the checkpoints there."""


class TrainingError(UserError):
    """Training cannot start or continue."""


class DivergedError(TrainingError):
    """A loss or a gradient is not finite, or there are too many spikes in a row; the weights may be lost."""


class EvaluationError(UserError):
    """An evaluation's data or model is wrong."""


class ExportError(UserError):
    """An export cannot be written or does not match its source."""


class PublishError(UserError):
    """A folder is not an export, or the hub refuses it."""


class ModelError(UserError):
    """A folder or run holds no model that can be loaded."""
