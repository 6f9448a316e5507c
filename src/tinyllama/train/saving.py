"""Checkpoints that are written in the background."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from tinyllama.checkpoint.retention import Retention
    from tinyllama.checkpoint.state import CheckpointState
    from tinyllama.checkpoint.store import CheckpointStore
    from tinyllama.train.ranks import Ranks


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time.

    Training waits only while the tensors are copied, and for the previous checkpoint if that is not complete yet. The
    thread has collectives of its own, so that its messages never mix with those of training.
    """

    def __init__(self, store: CheckpointStore, retention: Retention, ranks: Ranks) -> None:
        """Bind a store; every rank must do so at the same time.

        Args:
            store: where the checkpoints are kept.
            retention: which of them stay.
            ranks: the processes that write together.
        """
        self._store, self._retention, self._ranks = store, retention, ranks.with_own_group()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, tensors: dict[str, Tensor], state: CheckpointState, needed: int | None = None) -> None:
        """Copy the tensors and begin to write them with the state; a step that is still `needed` stays too.

        Raises:
            CheckpointError: the previous checkpoint could not be written.
            StorageError: or could not be copied to its URL.
        """
        self.wait()
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._pending = self._pool.submit(self._write, copies, state, needed)

    def wait(self) -> None:
        """Return when the last checkpoint is complete.

        Raises:
            CheckpointError: it could not be written.
            StorageError: or could not be copied to its URL.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the thread to finish."""
        self._pool.shutdown(wait=True)

    def _write(self, tensors: dict[str, Tensor], state: CheckpointState, needed: int | None) -> None:
        retention = self._retention if needed in {None, state.step} else self._retention.keeping(needed)
        save_checkpoint(self._store.folder, tensors, state, self._ranks)
        self._ranks.run_on_rank0(lambda: self._upload(state.step, retention))

    def _upload(self, step: int, retention: Retention) -> None:
        self._store.upload(step)
        self._store.prune(retention)
