"""Checkpoints in PyTorch's distributed format: complete or not there, verified before they are opened.

The distributed files of a checkpoint `step-<n>` hold tensors only (weights and moments); all other state is in
`state.json`. Its manifest lists every file with size and SHA-256. The distributed format reads a pickled index, so
checkpoints are private, trusted files: nothing is opened before its hash was compared.
"""

from __future__ import annotations

import re
import shutil
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from tinyllama.checkpoint.state import DAMAGED, CheckpointState, parse_state
from tinyllama.errors import CheckpointError
from tinyllama.files import new_directory, sha256_file, write_atomic
from tinyllama.locks import FolderLock, locked_folder
from tinyllama.record_files import FileEntry, FileRecord, file_entries, parse_object, parse_record, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.checkpoint.filesystem import FileSystemWriter

    from tinyllama.checkpoint.retention import Retention

MANIFEST, STATE = "manifest.json", "state.json"
WEIGHT, AVERAGE = "model.", "average."
"""What names of weights begin with, and those of their running average; those of moments begin with the moment's."""
_Result = TypeVar("_Result")
_NAME = re.compile(r"step-(\d+)")


class Manifest(FileRecord):
    """`manifest.json`: the files of a complete checkpoint."""

    FORMAT: ClassVar[int] = 1

    format: int
    step: int
    files: dict[str, FileEntry]
    chain: str = ""
    """Head of the chain over metrics.jsonl up to the step; empty in checkpoints of earlier versions."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose files match its manifest."""

    folder: Path
    step: int
    state: CheckpointState
    """Everything but tensors."""
    chain: str = ""
    """See `Manifest.chain`."""
    lock: FolderLock | None = field(default=None, compare=False, repr=False)
    """While it is held, training beside this process does not delete the checkpoint."""

    def release(self) -> None:
        """Let the checkpoint be deleted; it was read."""
        if self.lock is not None:
            self.lock.release()


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
    folder: Path, tensors: dict[str, Tensor], state: CheckpointState, ranks: RankGroup = _ALONE, chain: str = ""
) -> Path:
    """Write `folder/step-<state.step>` under another name, fsync it, and rename it.

    Every rank writes its parts of the tensors, which are in host memory; all must see the same folder. `chain` is
    recorded in the manifest.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    from torch.distributed import checkpoint as dcp

    target = folder / f"step-{state.step}"
    try:
        with ExitStack() as writing:
            beside = ranks.run_on_rank0(lambda: _begin(target, writing))
            with _quiet():
                dcp.save(  # type: ignore[attr-defined]  # exported, but not in its __all__
                    tensors, storage_writer=_writer(beside), no_dist=ranks.count == 1, process_group=ranks.group
                )
            ranks.run_on_rank0(lambda: _complete(beside, state, chain, writing))
    except (OSError, dcp.api.CheckpointException) as error:
        raise CheckpointError(
            f"{target}: the checkpoint cannot be written ({error}); earlier ones are kept: make room on the disk, or "
            "correct the folder's permissions, and run the same command again"
        ) from error
    return target


def _begin(target: Path, writing: ExitStack) -> Path:
    """A new folder that replaces a checkpoint's files at `target`; files of others move along, folders are refused."""
    if (theirs := _folder_in(target)) is not None:
        raise CheckpointError(
            f"{theirs}: this folder stands in a checkpoint that would be replaced; move it away, and run the command "
            "again"
        )
    return writing.enter_context(new_directory(target, foreign=lambda name: not is_checkpoint_file(name)))


def _folder_in(checkpoint: Path) -> Path | None:
    """A folder in a checkpoint's, which tinyllama did not make."""
    entries = sorted(checkpoint.iterdir()) if checkpoint.is_dir() else []
    return next((entry for entry in entries if entry.is_dir() and not entry.is_symlink()), None)


def _writer(folder: Path) -> FileSystemWriter:
    """The writer of one rank's parts, without copies ahead: these would wait for a stream of the first GPU."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter

    return FileSystemWriter(folder, per_thread_copy_ahead=0)


def _complete(beside: Path, state: CheckpointState, chain: str, writing: ExitStack) -> None:
    """Add the state and the manifest, and rename the whole."""
    write_atomic(beside / STATE, state.to_json())
    manifest = Manifest(format=Manifest.FORMAT, step=state.step, files=file_entries(beside), chain=chain)
    write_record(beside / MANIFEST, manifest)
    writing.close()


def load_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor], ranks: RankGroup = _ALONE) -> None:
    """Fill tensors in place, each rank its parts, however many ranks wrote; open it through its store before.

    Raises:
        CheckpointError: the checkpoint does not hold them all.
    """
    from torch.distributed import checkpoint as dcp

    try:
        with _quiet():
            dcp.load(  # type: ignore[attr-defined]  # exported, but not in its __all__
                tensors, checkpoint_id=checkpoint.folder, no_dist=ranks.count == 1
            )
    except dcp.api.CheckpointException as error:
        raise CheckpointError(
            f"{checkpoint.folder}: the checkpoint cannot be loaded ({error}); delete its folder, and training resumes "
            "from the one before it"
        ) from error


def stored_sizes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor; open it through its store before.

    Raises:
        CheckpointError: the index cannot be read.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    try:
        index = FileSystemReader(checkpoint.folder).read_metadata()
    except (OSError, CheckpointException) as error:
        raise CheckpointError(f"{checkpoint.folder}: its index cannot be read ({error}); {DAMAGED}") from error
    tensors = index.state_dict_metadata.items()
    return {name: tuple(entry.size) for name, entry in tensors if isinstance(entry, TensorStorageMetadata)}


def step_of(name: str) -> int | None:
    """Step of a checkpoint folder's name; None for other names."""
    return int(match[1]) if (match := _NAME.fullmatch(name)) else None


def steps_saved(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, as numbers in order (never as names)."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(step for entry in entries if (step := step_of(entry.name)) is not None)


_ATTEMPTS, _PAUSE = 40, 0.05
"""How often, and after how many seconds, a reader asks for a checkpoint that is being put in place or deleted."""


def verify(folder: Path, called: str = "") -> Checkpoint:
    """Check every file of one checkpoint against its manifest; it is not deleted while the result is referred to.

    Args:
        folder: of the checkpoint.
        called: what messages call it; empty for the folder.

    Raises:
        CheckpointError: it is damaged; names the file.
    """
    name = called or str(folder)
    try:
        lock = reading_lock(folder)
        manifest = parse_manifest((folder / MANIFEST).read_bytes(), f"{name}/{MANIFEST}")
        for file, entry in manifest.files.items():
            path = folder / file
            if path.stat().st_size != entry.bytes or sha256_file(path) != entry.sha256:
                raise CheckpointError(f"{name}/{file}: differs from its manifest; {DAMAGED}")
        state = parse_state((folder / STATE).read_bytes(), f"{name}/{STATE}")
    except (OSError, ValueError) as error:  # the latter for a name with NUL
        raise CheckpointError(f"{name}: the checkpoint is not complete ({error})") from error
    return Checkpoint(folder, manifest.step, state, manifest.chain, lock)


def reading_lock(folder: Path) -> FolderLock | None:
    """A lock that keeps a checkpoint from being deleted; None if another process writes or deletes it for long.

    Raises:
        OSError: the folder is not there, or was deleted meanwhile.
    """
    for _ in range(_ATTEMPTS):
        with suppress(BlockingIOError):
            return FolderLock(folder, shared=True)
        time.sleep(_PAUSE)
    return None


def parse_manifest(text: str | bytes, file: str) -> Manifest:
    """A checkpoint's manifest from the text of its file, which messages call `file`.

    Raises:
        CheckpointError: a key is missing or of another type, or a later version wrote it; names file and key.
    """
    value = parse_object(text, file, CheckpointError, DAMAGED)
    return parse_record(Manifest, value, file, CheckpointError, DAMAGED)


def read_state(folder: Path) -> CheckpointState:
    """The state of a checkpoint's folder, without its tensors; not verified.

    Raises:
        CheckpointError: it is not there or damaged.
    """
    try:
        text = (folder / STATE).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint is not complete ({error})") from error
    return parse_state(text, str(folder / STATE))


def prune(folder: Path, retention: Retention) -> None:
    """Delete the checkpoints that need not stay, but for those that a process reads or that hold files of others."""
    for step in retention.prunable(steps_saved(folder)):
        checkpoint = folder / f"step-{step}"
        ours = checkpoint.is_dir() and all(is_checkpoint_file(file.name) for file in checkpoint.iterdir())
        if ours and _folder_in(checkpoint) is None:
            with suppress(BlockingIOError), locked_folder(checkpoint):
                shutil.rmtree(checkpoint)


def is_checkpoint_file(name: str) -> bool:
    """Whether a checkpoint holds a file of this name."""
    return name in {MANIFEST, STATE, ".metadata"} or name.endswith(".distcp")


def stored_tensors(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors` that the checkpoint holds: an imported one has no running average, and maybe no moments."""
    if checkpoint.state.moments is None:
        return tensors
    missing = AVERAGE if checkpoint.state.has_moments else ""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(WEIGHT) or not name.startswith(missing)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the one warning that says what we ask for: saving without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def tensors_of(masters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and moments under the names they have in a checkpoint; shares memory with the originals."""
    tensors: dict[str, Tensor] = {}
    for name, weight in masters.items():
        tensors[f"{WEIGHT}{name}"] = weight.data
        moments = optimizer.state[weight].items()
        tensors |= {f"{moment}.{name}": tensor for moment, tensor in moments if moment != "step"}
    return tensors
