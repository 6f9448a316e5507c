"""Which device a process gets, on machines that this one is not."""

import os
import types

import pytest
import torch

from tinyllama.errors import UserError
from tinyllama.model.devices import choose_device, describe_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without accelerators or variables that hide some."""
    for kind in ("cuda", "xpu", "mps"):
        _install(monkeypatch, kind, 0)
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _install(monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    module = types.SimpleNamespace(is_available=lambda: count > 0, device_count=lambda: count)
    monkeypatch.setattr(torch, kind, module)


@pytest.mark.usefixtures("machine")
def test_auto_is_the_cpu_where_there_is_no_accelerator() -> None:
    assert choose_device("auto", 1) == torch.device("cpu")


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_auto_is_the_accelerator_that_there_is(kind: str, machine: pytest.MonkeyPatch) -> None:
    _install(machine, kind, 1)
    assert choose_device() == torch.device(kind, 0)
    assert choose_device("cpu") == torch.device("cpu")


def test_each_process_of_a_node_takes_the_card_of_its_local_rank(machine: pytest.MonkeyPatch) -> None:
    _install(machine, "cuda", 4)
    assert [choose_device("auto", rank).index for rank in range(4)] == [0, 1, 2, 3]
    assert choose_device("cuda:2", 0) == torch.device("cuda", 2)


def test_a_process_that_sees_one_card_of_its_own_takes_it_whatever_its_rank(machine: pytest.MonkeyPatch) -> None:
    _install(machine, "cuda", 1)
    machine.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert choose_device("auto", 3) == torch.device("cuda", 0)


@pytest.mark.parametrize(("asked", "rank"), [("auto", 2), ("cuda", 2), ("cuda:2", 0)])
def test_more_processes_than_cards_are_refused_with_the_remedy(
    asked: str, rank: int, machine: pytest.MonkeyPatch
) -> None:
    _install(machine, "cuda", 2)
    with pytest.raises(UserError, match=r"cuda:2: 2 are visible, numbered from 0; start at most 2 processes"):
        choose_device(asked, rank)


def test_one_card_for_several_processes_is_refused_on_each_of_them(machine: pytest.MonkeyPatch) -> None:
    _install(machine, "cuda", 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    machine.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in (0, 1):
        with pytest.raises(UserError, match="cuda:1: 2 processes of this node would share it; write cuda"):
            choose_device("cuda:1", rank)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("own", [None, "max_split_size_mb:64"])
def test_cuda_grows_its_segments_of_memory_unless_the_user_says_otherwise(
    own: str | None, machine: pytest.MonkeyPatch
) -> None:
    _install(machine, "cuda", 1)
    machine.setenv("PYTORCH_ALLOC_CONF", own or "")
    if own is None:
        machine.delenv("PYTORCH_ALLOC_CONF")
    choose_device("cuda")
    assert os.environ["PYTORCH_ALLOC_CONF"] == (own or "expandable_segments:True")


@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "xpu", "mps"])
def test_a_device_that_does_not_exist_is_refused(asked: str) -> None:
    with pytest.raises(UserError, match=f"device {asked}: .* choose auto or cpu"):
        choose_device(asked)


def test_the_cpu_is_described_with_its_cores() -> None:
    assert describe_device(torch.device("cpu")).startswith("cpu (")
