import errno
import pickle
from pathlib import Path

import pytest
import torch

from tests.checkpoint.states import made_up_state
from tinyllama.checkpoint.format import (
    Checkpoint,
    load_tensors,
    prune,
    save_checkpoint,
    steps_saved,
    verify,
)
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.errors import CheckpointError


def _tensors(value: float) -> dict[str, torch.Tensor]:
    return {"model.a": torch.full((3, 2), value), "exp_avg.a": torch.arange(4.0)}


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    saved = {"model.a": torch.randn(50, 7), "model.b": torch.randn(3)}
    path = save_checkpoint(tmp_path, saved, made_up_state(7))
    checkpoint = verify(path)
    loaded = {name: torch.empty_like(tensor) for name, tensor in saved.items()}
    load_tensors(checkpoint, loaded)
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert (checkpoint.step, checkpoint.state) == (7, made_up_state(7))


@pytest.mark.parametrize("name", ["state.json", ".metadata", "__0_0.distcp"])
def test_every_file_is_verified_before_anything_is_opened(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, _tensors(1.0), made_up_state(1))
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}: differs from its manifest"):
        verify(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match="not complete"):
        verify(path)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _tensors(1.0), made_up_state(9))
    newest = save_checkpoint(tmp_path, _tensors(2.0), made_up_state(10))
    (newest / "manifest.json").unlink()
    first, second = CheckpointStore(tmp_path).newest()
    assert isinstance(first, CheckpointError)
    assert isinstance(second, Checkpoint)
    assert second.step == 9


def test_a_failed_write_leaves_no_checkpoint_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, _tensors(1.0), made_up_state(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tinyllama.checkpoint.format.write_record", full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*earlier ones are kept"):
            save_checkpoint(tmp_path, _tensors(2.0), made_up_state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_passing_checkpoints_are_pruned_and_permanent_ones_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, _tensors(step), made_up_state(step))
    prune(tmp_path, Retention(1, frozenset({5})))
    assert steps_saved(tmp_path) == [5, 20]
    prune(tmp_path, Retention(0, frozenset({5})))
    assert steps_saved(tmp_path) == [5]


def test_a_checkpoint_that_is_read_is_not_pruned_until_it_is_released(tmp_path: Path) -> None:
    for step in (5, 10):
        save_checkpoint(tmp_path, _tensors(step), made_up_state(step))
    checkpoint = verify(tmp_path / "step-5")
    copy = pickle.loads(pickle.dumps(checkpoint))  # noqa: S301  # as ranks send it to each other
    prune(tmp_path, Retention(1))
    assert steps_saved(tmp_path) == [5, 10]
    checkpoint.release()
    prune(tmp_path, Retention(1))
    assert steps_saved(tmp_path) == [10]
    assert copy == checkpoint


def test_a_checkpoint_with_files_of_others_is_not_pruned(tmp_path: Path) -> None:
    for step in (5, 10):
        save_checkpoint(tmp_path, _tensors(step), made_up_state(step))
    (tmp_path / "step-5/notes.txt").touch()
    prune(tmp_path, Retention(1))
    assert steps_saved(tmp_path) == [5, 10]


def test_a_checkpoint_that_is_deleted_before_it_is_opened_gives_way_to_a_newer_one(tmp_path: Path) -> None:
    class Raced(CheckpointStore):
        """Training goes on between the listing and the opening."""

        def open(self, step: int) -> Checkpoint:
            if step == 5:
                save_checkpoint(tmp_path, _tensors(10), made_up_state(10))
                prune(tmp_path, Retention(1))
            return super().open(step)

    save_checkpoint(tmp_path, _tensors(5), made_up_state(5))
    (found,) = Raced(tmp_path).newest()
    assert isinstance(found, Checkpoint)
    assert found.step == 10


def test_a_checkpoint_of_other_tensors_is_refused(tmp_path: Path) -> None:
    checkpoint = verify(save_checkpoint(tmp_path, _tensors(1.0), made_up_state(1)))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_tensors(checkpoint, {"model.other": torch.zeros(3)})


def test_what_a_user_put_into_a_checkpoint_is_neither_replaced_nor_pruned(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, {"model.a": torch.ones(2)}, made_up_state(1))
    (path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, {"model.a": torch.zeros(2)}, made_up_state(1))
    assert (path / "notes.txt").read_text() == "mine"
    (path / "notes.txt").unlink()
    (path / "state.json").unlink()
    (path / "state.json").mkdir()
    (path / "state.json" / "keep.me").write_text("mine")
    with pytest.raises(CheckpointError, match=r"state\.json: this folder stands in a checkpoint"):
        save_checkpoint(tmp_path, {"model.a": torch.zeros(2)}, made_up_state(1))
    prune(tmp_path, Retention(0))
    assert (path / "state.json" / "keep.me").read_text() == "mine"
