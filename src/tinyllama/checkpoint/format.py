"""Checkpoints in PyTorch's distributed format: complete or not there, verified before they are opened.

A checkpoint `step-<n>` holds tensors only (weights and moments); all other state is `state.json`. Its manifest
lists every file with size and SHA-256. The distributed format reads a pickled index, so checkpoints are private,
trusted files: nothing is opened before its hash was compared.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tinyllama.errors import CheckpointError
from tinyllama.files import new_directory, sha256_file, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.distributed import ProcessGroup

MANIFEST, STATE = "manifest.json", "state.json"
WEIGHT = "model."
"""What names of weights begin with; those of moments begin with the moment's."""
FRESH = "fresh"
"""State `moments` of a checkpoint without any: they begin at zero."""
_Result = TypeVar("_Result")
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose files match its manifest."""

    folder: Path
    step: int
    state: dict[str, Any]
    """Everything but tensors: tokens seen, fingerprint facts, threads, micro-batch, versions."""


class RankGroup(Protocol):
    """The processes that write or read a checkpoint together."""

    @property
    def count(self) -> int:
        """How many they are."""

    @property
    def group(self) -> ProcessGroup | None:
        """The process group whose collectives they use; None for the default group."""

    def run_on_rank0(self, function: Callable[[], _Result]) -> _Result:
        """Call `function` on rank 0 alone; every rank gets what it returns."""


class _OneProcess:
    """A group of one, which needs no collectives."""

    count, group = 1, None

    def run_on_rank0(self, function: Callable[[], _Result]) -> _Result:
        return function()


_ALONE = _OneProcess()


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], ranks: RankGroup = _ALONE
) -> Path:
    """Write `folder/step-<step>` beside its place, fsync it, and rename it into place.

    Every rank writes its parts of the tensors; the folder must be the same place for all.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    from torch.distributed import checkpoint as dcp  # slow to import

    target = folder / f"step-{step}"
    try:
        with ExitStack() as writing:
            beside = ranks.run_on_rank0(lambda: writing.enter_context(new_directory(target)))
            with _quiet():
                dcp.save(  # type: ignore[attr-defined]  # exported, but not in its __all__
                    tensors, checkpoint_id=beside, no_dist=ranks.count == 1, process_group=ranks.group
                )
            ranks.run_on_rank0(lambda: _complete(beside, step, state, writing))
    except (OSError, dcp.api.CheckpointException) as error:
        raise CheckpointError(f"{target}: the checkpoint cannot be written ({error}); earlier ones are kept") from error
    return target


def _complete(beside: Path, step: int, state: dict[str, Any], writing: ExitStack) -> None:
    """Add what is not tensors and the manifest, and rename the whole into place."""
    write_json(beside / STATE, state)
    names = sorted(path.name for path in beside.iterdir())
    facts = {n: {"bytes": (beside / n).stat().st_size, "sha256": sha256_file(beside / n)} for n in names}
    write_json(beside / MANIFEST, {"format": 1, "step": step, "files": facts})
    writing.close()


def load_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor], ranks: RankGroup = _ALONE) -> None:
    """Fill tensors in place, each rank its parts, however many ranks wrote; open it through its store before.

    Raises:
        CheckpointError: the checkpoint does not hold them all.
    """
    from torch.distributed import checkpoint as dcp  # slow to import

    try:
        with _quiet():
            dcp.load(  # type: ignore[attr-defined]  # as above
                tensors, checkpoint_id=checkpoint.folder, no_dist=ranks.count == 1
            )
    except dcp.api.CheckpointException as error:
        raise CheckpointError(f"{checkpoint.folder}: cannot be loaded ({error})") from error


def stored_sizes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor; open it through its store before.

    Raises:
        CheckpointError: the index cannot be read.
    """
    from torch.distributed.checkpoint.api import CheckpointException  # slow to import
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # as above
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata  # as above

    try:
        index = FileSystemReader(checkpoint.folder).read_metadata()
    except (OSError, CheckpointException) as error:
        raise CheckpointError(f"{checkpoint.folder}: its index cannot be read ({error})") from error
    tensors = index.state_dict_metadata.items()
    return {name: tuple(facts.size) for name, facts in tensors if isinstance(facts, TensorStorageMetadata)}


def step_of(name: str) -> int | None:
    """Step of a checkpoint folder's name; None for other names."""
    return int(match[1]) if (match := _NAME.fullmatch(name)) else None


def steps_saved(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, as numbers in order (never as names)."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(step for entry in entries if (step := step_of(entry.name)) is not None)


def verify(folder: Path, called: str = "") -> Checkpoint:
    """Check every file of one checkpoint against its manifest.

    Args:
        folder: of the checkpoint.
        called: what messages call it; empty for the folder.

    Raises:
        CheckpointError: it is damaged; names the file.
    """
    name = called or str(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for file, facts in manifest["files"].items():
            path = folder / file
            if path.stat().st_size != facts["bytes"] or sha256_file(path) != facts["sha256"]:
                raise CheckpointError(f"{name}/{file}: differs from its manifest; the checkpoint is damaged")
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name}: the checkpoint is not complete ({error})") from error
    return Checkpoint(folder, int(manifest["step"]), state)


def passing(steps: list[int], keep: int, permanent: set[int]) -> list[int]:
    """Those of some steps, in order, whose checkpoints may go: neither permanent nor among the last `keep` others."""
    others = [step for step in steps if step not in permanent]
    return others[: max(0, len(others) - keep)]


def prune(folder: Path, keep: int, permanent: set[int]) -> None:
    """Delete all but the last `keep` checkpoints and the permanent ones."""
    for step in passing(steps_saved(folder), keep, permanent):
        shutil.rmtree(folder / f"step-{step}")


def stored_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors` that the checkpoint holds: an imported one with fresh moments holds weights alone."""
    if checkpoint.state.get("moments") != FRESH:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name.startswith(WEIGHT)}


class _quiet(warnings.catch_warnings):  # noqa: N801  # used like a function
    """Hush the one warning that says what we ask for: saving without a process group."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)


def tensors_of(masters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and moments under the names they have in a checkpoint; shares memory with the originals."""
    tensors: dict[str, Tensor] = {}
    for name, weight in masters.items():
        tensors[f"{WEIGHT}{name}"] = weight.data
        moments = optimizer.state[weight].items()
        tensors |= {f"{moment}.{name}": tensor for moment, tensor in moments if moment != "step"}
    return tensors
