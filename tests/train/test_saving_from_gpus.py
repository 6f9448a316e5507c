"""Checkpoints of ranks on GPUs, without a GPU: torch's own writer and our thread over a device that keeps a log.

CUDA's current device belongs to a thread; a new thread's is the node's first. Torch's writer copies GPU tensors behind
the stream that computes, and waits for a stream of the current device, so that on all ranks but a node's first it would
write bytes that had not arrived.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import filesystem

from tests.checkpoint.states import made_up_state
from tinyllama.checkpoint import format as checkpoint_format
from tinyllama.checkpoint.format import load_tensors, verify
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.model.torch_internals import host_stager
from tinyllama.train import saving
from tinyllama.train.ranks import Ranks
from tinyllama.train.saving import CheckpointWriter

RANK_DEVICE = torch.device("cuda", 3)


class LoggedStream:
    """A stream whose waits are logged."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: "LoggedStream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: "LoggedStream") -> None:
        self.log.append(f"{self.name} waits for {event.name}")

    def record_event(self) -> "LoggedStream":
        return LoggedStream(self.log, f"copies of {self.name}")

    def synchronize(self) -> None:
        self.log.append(f"{threading.current_thread().name[:10]} waits for {self.name}")


class LoggedGpus:
    """What is used of `torch.cuda`, on a node of several."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._local = threading.local()

    def set_device(self, device: torch.device) -> None:
        self._local.index = device.index

    def current(self) -> int:
        """CUDA's answer in a thread that has set none is 0."""
        return getattr(self._local, "index", 0)

    def current_stream(self, device: torch.device | None = None) -> LoggedStream:
        return LoggedStream(self.log, f"cuda:{self.current() if device is None else device.index}")

    def Stream(self, device: torch.device) -> LoggedStream:  # noqa: N802  # torch's name
        return LoggedStream(self.log, f"side stream of {device}")

    @contextmanager
    def stream(self, _stream: LoggedStream) -> Iterator[None]:
        yield

    @staticmethod
    def is_available() -> bool:
        return True


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> LoggedGpus:
    """A node's GPUs; this thread has chosen none, as where one process computes on `cuda:3`."""
    found = LoggedGpus()
    monkeypatch.setattr(torch, "get_device_module", lambda _device: found)
    monkeypatch.setattr(filesystem, "_get_available_device_type", lambda: "cuda")
    monkeypatch.setattr(filesystem, "_get_device_module", lambda _kind: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(saving, "host_stager", lambda *, pinned: host_stager(pinned=not pinned))  # no GPU to pin for
    return found


def _save(folder: Path, gpus: LoggedGpus) -> list[str]:
    """The log of one checkpoint and the update after it."""
    writer = CheckpointWriter(CheckpointStore(folder), Retention(1), Ranks(device=RANK_DEVICE))
    weight = torch.ones(3)
    writer.save({"model.a": weight}, made_up_state(1))
    writer.before_update()
    weight.fill_(2.0)
    writer.wait()
    writer.close()
    return gpus.log


def test_the_thread_waits_for_the_copies_of_its_own_gpu_and_touches_no_other(tmp_path: Path, gpus: LoggedGpus) -> None:
    log = _save(tmp_path, gpus)
    assert sorted(log) == [
        "checkpoint waits for copies of side stream of cuda:3",
        "cuda:3 waits for copies of side stream of cuda:3",
        "side stream of cuda:3 waits for cuda:3",
    ]
    loaded = {"model.a": torch.zeros(3)}
    load_tensors(verify(tmp_path / "step-1"), loaded)
    assert loaded["model.a"].tolist() == [1.0, 1.0, 1.0]


def test_the_thread_works_on_the_ranks_gpu_and_gets_copies_in_host_memory(
    tmp_path: Path, gpus: LoggedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def save(_folder: Path, tensors: dict[str, torch.Tensor], *_rest: object) -> None:
        seen.extend([gpus.current(), {tensor.device.type for tensor in tensors.values()}, tensors["model.a"].tolist()])

    monkeypatch.setattr(saving, "save_checkpoint", save)
    _save(tmp_path, gpus)
    assert seen == [3, {"cpu"}, [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("fault", ["copies ahead", "thread without a device"])
def test_the_log_shows_the_faults_that_this_file_is_about(
    fault: str, tmp_path: Path, gpus: LoggedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "set_current_device", lambda _device: None)
    if fault == "copies ahead":
        monkeypatch.setattr(checkpoint_format, "_writer", filesystem.FileSystemWriter)
        assert any("waits for cuda:0" in line for line in _save(tmp_path, gpus))
    else:
        seen: list[int] = []
        monkeypatch.setattr(saving, "save_checkpoint", lambda *_rest: seen.append(gpus.current()))
        _save(tmp_path, gpus)
        assert seen == [0]
