import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import TCPStore

from tests.checkpoint.states import made_up_state
from tests.conftest import MakeFamily
from tests.train.runs import step_records
from tinyllama.checkpoint.format import load_tensors, save_checkpoint, steps_saved, verify
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.errors import CheckpointError
from tinyllama.train import saving
from tinyllama.train import watch as watching
from tinyllama.train.ranks import Ranks
from tinyllama.train.saving import CheckpointWriter
from tinyllama.train.watch import RankWatch


def test_training_goes_on_while_the_state_of_its_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_is_free = threading.Event()

    def slow(*arguments: object) -> Path:
        assert disk_is_free.wait(60)
        return save_checkpoint(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    writer, weight = CheckpointWriter(CheckpointStore(tmp_path), Retention(2), Ranks()), torch.ones(3)
    writer.save({"model.a": weight}, made_up_state(1))
    weight.fill_(2.0)  # the next update
    assert steps_saved(tmp_path) == []
    disk_is_free.set()
    writer.wait()
    writer.close()
    loaded = {"model.a": torch.zeros(3)}
    load_tensors(verify(tmp_path / "step-1"), loaded)
    assert loaded["model.a"].tolist() == [1.0, 1.0, 1.0]


def test_the_watch_on_gpus_takes_no_wait_for_the_writer_for_a_hanging_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    later = [0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    watch = RankWatch(store, 0, 1, timedelta(seconds=60), beat=0.1)
    troubles = list[str]()
    monkeypatch.setattr(watch, "_end", troubles.append)
    ranks, free = Ranks(watch=watch), threading.Event()

    def slow(*arguments: object) -> Path:
        assert free.wait(60)
        return save_checkpoint(*arguments)  # type: ignore[arg-type]

    def let_go() -> None:
        later[0] = 100
        time.sleep(1)
        free.set()

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    writer = CheckpointWriter(CheckpointStore(tmp_path), Retention(2), ranks)
    with ranks.phase("the rollback to step 1"):
        writer.save({"model.a": torch.ones(3)}, made_up_state(1))
        threading.Timer(1, let_go).start()
        writer.wait()
    assert not troubles
    with ranks.phase("what hangs"):
        later[0] = 200
        time.sleep(2)
    assert troubles
    watch.close()
    writer.close()


def test_checkpoints_are_written_in_order_and_pruned(tmp_path: Path) -> None:
    writer = CheckpointWriter(CheckpointStore(tmp_path), Retention(1, frozenset({2})), Ranks())
    for step in range(1, 6):
        writer.save({"model.a": torch.full((2,), float(step))}, made_up_state(step))
    writer.wait()
    writer.close()
    assert steps_saved(tmp_path) == [2, 5]


def test_a_checkpoint_that_cannot_be_written_is_told_at_the_next(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    writer = CheckpointWriter(CheckpointStore(tmp_path / "file"), Retention(1), Ranks())
    writer.save({"model.a": torch.ones(1)}, made_up_state(1))
    with pytest.raises(CheckpointError, match="cannot be written"):
        writer.save({"model.a": torch.ones(1)}, made_up_state(2))
    writer.close()


def test_time_lost_to_checkpoints_is_in_the_metrics(make_family: MakeFamily) -> None:
    family = make_family("family", "checkpoints.every=2K")
    family.train("base")
    steps = step_records(family.folder / "base")
    # Steps of 1,024 tokens: saved after 2 and 4, so steps 3 and 5 tell what it took.
    assert [record.step for record in steps if record.checkpoint_seconds > 0] == [3, 5]
