"""The training step on a GPU, one or several ranks, without a GPU: devices, types and waits, but no numbers."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tinyllama.plan.step_time import collectives
from tinyllama.recipe import load_recipe

SMALL = ("model.layers=2", "model.context=32")
CASES: dict[str, list[Any]] = {
    "one GPU": [1, 1],
    "one GPU in fp32, Muon": [1, 1, "precision=fp32", "optimizer.kind=muon"],
    "one GPU, fp16": [1, 1, "precision=fp16"],
    "two nodes of two, fp16": [4, 2, "precision=fp16"],
    "one GPU, fp8": [1, 1, "precision=fp8"],
    "two nodes of two, Muon": [4, 2, "optimizer.kind=muon", "optimizer.weight_decay_of=matrices"],
    "eight GPUs, one copy": [8, 4, "hardware.shard=all"],
    "eight small GPUs, one copy": [8, 4, "hardware.shard=all", "a small card"],
    "four copies, Muon": [4, 4, "hardware.shard=none", "optimizer.kind=muon"],
    "replicas in fp32": [4, 4, "hardware.shard=none", "precision=fp32"],
    "documents": [1, 1, "document_masking=true"],
    "documents, on two nodes": [4, 2, "document_masking=true", "optimizer.z_loss=1e-4"],
    "checkpointed, fp8": [4, 2, "hardware.activation_checkpointing=true", "precision=fp8"],
}
PLANTED: dict[str, list[Any]] = {
    "reads the loss": [1, 1, "fault: reads the loss"],
    "mixes devices": [1, 1, "fault: mixes devices"],
}
"""Faults that the tests must find."""


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What each case gave; all run in processes that fork from one."""
    cases = [[*case[:2], *SMALL, *case[2:]] for case in (CASES | PLANTED).values()]
    command = [sys.executable, "-W", "ignore", "-m", "tests.train.fake_gpu", json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(cases), done.stderr[-2000:]
    return dict(zip(CASES | PLANTED, lines, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_step_stays_on_the_gpu_and_the_host_waits_for_it_once(name: str, results: dict[str, dict[str, Any]]) -> None:
    """A tensor of the CPU among those of the GPU is an error of the case; three passes wait no more than one."""
    assert results[name].get("trace") is None, results[name]["trace"]
    assert results[name]["waits"] == {"copy in _accumulate": 1}


@pytest.mark.parametrize("name", ["documents", "documents, on two nodes"])
def test_documents_are_segments_on_a_gpu_and_no_mask_is_made(name: str, results: dict[str, dict[str, Any]]) -> None:
    """Two blocks in three passes; a mask would be an error of the case."""
    assert results[name]["kernels"] == {"torch_attn::_varlen_attn": 6, "torch_attn::_varlen_attn_backward": 6}


def test_ranks_that_share_weights_share_the_work_of_muon(results: dict[str, dict[str, Any]]) -> None:
    """Two blocks of seven matrices, in sizes of 4, 4 and 6; four ranks with whole copies share it, too."""
    names = ("one GPU in fp32, Muon", "two nodes of two, Muon", "four copies, Muon")
    assert [results[name]["orthogonalized"] for name in names] == [14, 7, 4]


def test_weights_that_fit_are_gathered_once_in_a_step(results: dict[str, dict[str, Any]]) -> None:
    """Two blocks, and the rest of the model; else each block is gathered forward and backward, in three passes."""
    names = ("eight GPUs, one copy", "eight small GPUs, one copy")
    assert [results[name]["gathers"] for name in names] == [3, 15]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[0] > 1 and name != "four copies, Muon"])
def test_the_step_sends_what_the_prediction_of_its_time_counts(name: str, results: dict[str, dict[str, Any]]) -> None:
    """In bytes of whole tensors; three passes. On a small card, weights do not stay gathered.

    FSDP pads what eight ranks do not divide. Four ranks that share six matrices of Muon send eight.
    """
    ranks, per_node, *overrides = CASES[name]
    gathered = "a small card" not in overrides
    recipe = load_recipe("nano", [*SMALL, *(text for text in overrides if "=" in text)])
    sharded_over = recipe.hardware.sharded_over(ranks, per_node)
    sent = Counter[str]()
    for part in collectives(recipe, ranks, sharded_over, 3, gathered=gathered):
        sent[part.kind] += part.bytes * part.times
    recorded = results[name]["sent"]
    if sharded_over == ranks:
        del recorded["all_reduce"]  # over one replica, which sends nothing
    assert recorded == pytest.approx(sent, rel=0.01)


def test_a_wait_and_a_mixture_of_devices_that_were_planted_are_found(results: dict[str, dict[str, Any]]) -> None:
    assert results["reads the loss"]["waits"] == {"copy in _accumulate": 1, "number in _accumulate": 1}
    assert "device" in results["mixes devices"]["error"]
