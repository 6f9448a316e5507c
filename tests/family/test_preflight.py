"""Single checks, for machines that lack what this one has."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.conftest import MakeFamily
from tinyllama.family import Family
from tinyllama.family.preflight import ALL_PHASES, CHECKS, evaluation_checks, machine_checks
from tinyllama.model import devices
from tinyllama.plan.hardware import memory_per_gpu
from tinyllama.recipe import load_recipe

Found = dict[str, tuple[list[str], list[str]]]


def found(family: Family, **options: object) -> Found:
    """Check → faults and notes; those without are left out."""
    results = family.check(**options)  # type: ignore[arg-type]  # of many types
    return {result.name: (result.faults, result.notes) for result in results if result.findings}


def without(package: str) -> Callable[[str], object]:
    return lambda name: None if name == package else find_spec(name)


def test_a_prepared_family_passes_every_check(make_family: MakeFamily) -> None:
    family = make_family("family", "evaluation.tasks=[]")
    assert found(family) == {}
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_charts_are_a_fault_for_a_report_and_a_note_before(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_checks, "find_spec", without("plotly"))
    family = make_family("family", "evaluation.tasks=[]")
    faults, _ = found(family)["packages"]
    assert "the report's charts: plotly is not installed; pip install" in faults[0]
    assert found(family, phases={"train"})["packages"] == ([], faults)


def test_a_missing_extra_for_fp8_is_a_fault_of_training(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_checks, "find_spec", without("torchao"))
    assert "torchao is not installed" in found(make_family("family", "precision=fp8"))["packages"][0][0]


def test_tasks_with_data_need_lm_eval(make_family: MakeFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_checks, "find_spec", without("lm_eval"))
    family = make_family("family", "evaluation.tasks=[commonsense]")
    assert "lm-eval is not installed" in found(family, data=tmp_path)["packages"][1][0]


def test_tasks_without_data_are_a_line_for_each_reason(make_family: MakeFamily, tmp_path: Path) -> None:
    faults, notes = found(make_family("family", "evaluation.tasks=[commonsense, sciq]"), data=tmp_path)["task data"]
    assert faults == []
    seven, named = notes
    assert seven.startswith("evaluation.tasks: no score for hellaswag, openbookqa, winogrande, arc_challenge, ")
    assert named.startswith("evaluation.tasks: no score for sciq: ")
    assert all("HF_HUB_OFFLINE is set" in note for note in notes)


class _Disk:
    free = 40_000_000


def _text(tmp_path: Path, extra: str = "") -> Family:
    """A family whose text takes about 8 MB more than its checkpoints."""
    (tmp_path / "a.jsonl").write_text('{"text": "' + "words and " * 1_000_000 + '"}\n' * 2, encoding="utf-8")
    source = f"{{sources: [{{files: a.jsonl{extra}}}], size: 1, held_out: {{share: 5%}}, license: none}}"
    return Family(load_recipe("nano", [f"corpora.prose={source}", "evaluation.tasks=[]"]), root=tmp_path)


def test_a_disk_without_room_for_text_is_a_fault_of_every_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _: _Disk)
    monkeypatch.setattr(_Disk, "free", 10)
    assert "make room" in found(_text(tmp_path), phases={"prepare"})["disk"][0][0]
    filtered = _text(tmp_path, ", where: len(text) < 9")
    monkeypatch.setattr(_Disk, "free", 2_000_000_000)
    assert "disk" not in found(filtered)


def test_text_that_a_filter_may_drop_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _: _Disk)
    monkeypatch.setattr(machine_checks, "_checkpoints", lambda *_: 0)
    monkeypatch.setattr(machine_checks, "_export", lambda *_: 0)
    monkeypatch.setattr(_Disk, "free", 1_000_000)
    faults, notes = found(_text(tmp_path, ", where: len(text) < 9"))["disk"]
    assert not faults
    assert "if its filters keep much" in notes[0]


def test_a_disk_without_room_for_checkpoints_is_a_note_while_text_is_prepared(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _: _Disk)
    monkeypatch.setattr(_Disk, "free", 1000)
    family = make_family("family", "evaluation.tasks=[]")
    assert "lower checkpoints.keep" in found(family, phases={"train"})["disk"][0][0]
    assert "lower checkpoints.keep" in found(family, phases={"prepare"})["disk"][1][0]


def test_checkpoints_of_every_token_take_no_more_room_than_those_of_every_step(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _: _Disk)
    monkeypatch.setattr(_Disk, "free", 1 << 30)
    every = ("checkpoints.every=1", "checkpoints.permanent=1")
    assert "disk" not in found(make_family("family", "evaluation.tasks=[]", *every))


def test_memory_for_a_micro_batch_is_predicted(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("family", "evaluation.tasks=[]")
    needed = memory_per_gpu(family.recipe, 1, 0)
    state = needed.weights + needed.gradients + needed.moments
    monkeypatch.setattr(devices, "memory_of", lambda _: state)
    faults, notes = found(family)["device"]
    assert not faults
    assert f"hardware.micro_batch: {family.recipe.micro_batch}" in notes[0]
    monkeypatch.setattr(devices, "memory_of", lambda _: state - 1)
    assert "make model smaller" in found(family)["device"][0][0]
    assert "device" not in found(family, here=False)
    assert "device" not in found(family, phases=ALL_PHASES - {"train"})


def test_on_a_gpu_a_micro_batch_that_is_chosen_from_memory_has_to_fit_with_one_sequence(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("family", "evaluation.tasks=[]", "hardware.micro_batch=auto")
    monkeypatch.setattr(devices, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(devices, "describe_device", lambda _: "a GPU")
    monkeypatch.setattr(devices, "memory_of", lambda _: memory_per_gpu(family.recipe, 1, 0, 1).total)
    assert memory_per_gpu(family.recipe, 1, 0).total > memory_per_gpu(family.recipe, 1, 0, 1).total
    assert "device" not in found(family)
    monkeypatch.setattr(devices, "memory_of", lambda _: memory_per_gpu(family.recipe, 1, 0, 1).total - 1)
    assert "hardware.micro_batch: 1," in found(family)["device"][1][0]
