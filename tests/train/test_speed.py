import time

import pytest
import torch

from tinyllama.design.machines import trial_recipe
from tinyllama.design.shapes import FAMILIES
from tinyllama.train import speed as module
from tinyllama.train.speed import measure_speed

CPU = torch.device("cpu")


def test_the_speed_is_that_of_passes_and_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of which each call takes a second."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    recipe = trial_recipe(FAMILIES["smollm"].shape(64, 512, 256), compiles=False)
    assert recipe.micro_batch == 32
    assert measure_speed(recipe, 96, CPU) == 96 * 256 / (3 * 1 + 1)
    assert measure_speed(recipe, 8, CPU) == 8 * 256 / (1 + 1)


def test_passes_and_updates_take_turns_as_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def one_pass(_batch: object) -> tuple[float]:
        calls.append("pass")
        return (0.0,)

    monkeypatch.setattr(module, "_SECONDS", 0.01)
    monkeypatch.setattr(module, "Gradients", lambda *_, **__: one_pass)
    monkeypatch.setattr(module, "_update", lambda *_: calls.append("update"))
    measure_speed(trial_recipe(FAMILIES["smollm"].shape(64, 512, 64), compiles=False), 8, CPU)
    assert len(calls) > 4
    assert calls == ["pass", "update"] * (len(calls) // 2)


def test_what_is_measured_really_runs() -> None:
    recipe = trial_recipe(FAMILIES["smollm"].shape(64, 512, 64), compiles=False)
    began = time.perf_counter()
    speed = measure_speed(recipe, 8, CPU)
    assert 8 * 64 / speed < time.perf_counter() - began  # a step is a part of what was timed
