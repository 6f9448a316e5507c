"""Checkpoints that are written in the background."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.checkpoint.format import save_checkpoint
from tinyllama.model.devices import set_current_device
from tinyllama.model.torch_internals import host_stager

if TYPE_CHECKING:
    from torch import Tensor

    from tinyllama.checkpoint.retention import Retention
    from tinyllama.checkpoint.state import CheckpointState
    from tinyllama.checkpoint.store import CheckpointStore
    from tinyllama.train.ranks import Ranks


_STREAMS = {"cuda", "xpu"}
"""Devices that copy on a stream beside the one that computes."""


class HostCopies:
    """A rank's tensors copied to host memory, by the thread that trains, for the thread that writes.

    The copies keep their memory, pinned for a CUDA device. Such a device copies on a stream of its own, while the next
    step computes its gradients; that step's update waits for the copy.
    """

    def __init__(self, device: torch.device) -> None:
        """Bind a rank's device, which need not be this thread's current one."""
        self._device = device
        self._stage = host_stager(pinned=device.type == "cuda")
        self._module: Any = torch.get_device_module(device) if device.type in _STREAMS else None
        self._stream: Any = self._module.Stream(device) if self._module else None
        self._copied: Any = None

    def take(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Begin to copy; the previous copies must not be in use any more."""
        if self._module is None:
            return self._stage(tensors)
        self._stream.wait_stream(self._module.current_stream(self._device))
        with self._module.stream(self._stream):
            copies = self._stage(tensors, non_blocking=True)
            self._copied = self._stream.record_event()
        return copies

    def before_update(self) -> None:
        """Let the device finish the copy before what it is given next, which changes the tensors."""
        if self._copied is not None:
            self._module.current_stream(self._device).wait_event(self._copied)

    def wait(self) -> None:
        """Return when the copies hold the tensors' values."""
        if self._copied is not None:
            self._copied.synchronize()


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time.

    Training waits only while the tensors are copied, and for the previous checkpoint if that is not complete yet. The
    thread has collectives of its own, so that its messages never mix with those of training, and sees tensors in host
    memory only: a thread's current device is the first of the node, whatever the device of its rank is.
    """

    def __init__(self, store: CheckpointStore, retention: Retention, ranks: Ranks) -> None:
        """Bind a store; every rank must do so at the same time.

        Args:
            store: where the checkpoints are kept.
            retention: which of them stay.
            ranks: the processes that write together.
        """
        self._store, self._retention, self._ranks = store, retention, ranks.with_own_group()
        self._patiently = ranks.patiently
        self._copies = HostCopies(ranks.device)
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint", initializer=set_current_device, initargs=(ranks.device,)
        )
        self._pending: Future[None] | None = None

    def save(
        self, tensors: dict[str, Tensor], state: CheckpointState, needed: int | None = None, chain: str = ""
    ) -> None:
        """Copy the tensors and begin to write them with the state; a step that is still `needed` stays too.

        `chain` is the head of the chain over the run's metrics.

        Raises:
            CheckpointError: the previous checkpoint could not be written.
            StorageError: or could not be copied to its URL.
        """
        self.wait()
        copies = self._copies.take({name: tensor.detach() for name, tensor in tensors.items()})
        self._pending = self._pool.submit(self._write, copies, state, needed, chain)

    def before_update(self) -> None:
        """To be called before the tensors change: a copy on the device is finished first."""
        self._copies.before_update()

    def wait(self) -> None:
        """Return when the last checkpoint is complete.

        Raises:
            CheckpointError: it could not be written.
            StorageError: or could not be copied to its URL.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._patiently():  # rank 0 hashes and uploads
                pending.result()

    def close(self) -> None:
        """Wait for the thread to finish."""
        self._pool.shutdown(wait=True)

    def _write(self, tensors: dict[str, Tensor], state: CheckpointState, needed: int | None, chain: str) -> None:
        self._copies.wait()
        retention = self._retention if needed in {None, state.step} else self._retention.keeping(needed)
        save_checkpoint(self._store.folder, tensors, state, self._ranks, chain)
        self._ranks.run_on_rank0(lambda: self._upload(state.step, retention))

    def _upload(self, step: int, retention: Retention) -> None:
        self._store.upload(step)
        self._store.prune(retention)
