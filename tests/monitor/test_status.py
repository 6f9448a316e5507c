"""The state of each model is what its files and processes say, whatever happened to training."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.train.test_metrics import HELD_OUT, SPIKE, STEP
from tinyllama.errors import ModelError, TrainingError
from tinyllama.layout import FamilyLayout
from tinyllama.monitor import ModelStatus, open_monitor
from tinyllama.monitor.status import planned_steps
from tinyllama.monitor.tail import MetricsTail
from tinyllama.plan import compile_plan
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.metrics import JsonlLogger, Record, StepRecord
from tinyllama.train.process import TrainingProcess, this_process, write_process

RECIPE = load_recipe("nano", SMALL)


def step(number: int, **changes: float) -> StepRecord:
    times = {"seconds": 0.5, "checkpoint_seconds": 0.5, "tokens_per_second": 2048.0}
    return replace(STEP, step=number, tokens=1024 * number, **times, **changes)


def log(path: Path, *records: Record, at: int = 0) -> None:
    logger = JsonlLogger(path, at)
    for record in records:
        logger.log(record)
    logger.close()


@pytest.fixture
def layout(tmp_path: Path) -> FamilyLayout:
    layout = FamilyLayout(tmp_path / "family")
    layout.root.mkdir()
    layout.recipe.write_text(dump_recipe(RECIPE))
    return layout


def _gone() -> TrainingProcess:
    """The record of a process that trained here and was killed."""
    code = "from tinyllama.train.process import *; print(this_process().model_dump_json(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        process = TrainingProcess.model_validate_json(child.stdout.readline())
        assert process.is_alive
        child.kill()
    assert not process.is_alive
    return process


def _base(layout: FamilyLayout) -> ModelStatus:
    return open_monitor(layout.root).read().models[0]


def test_steps_of_a_model_are_those_of_its_plan() -> None:
    for recipe in (RECIPE, load_recipe("mini")):
        assert [planned_steps(recipe, model) for model in recipe.models] == [
            compile_plan(recipe, model).steps for model in recipe.models
        ]


def test_a_family_that_trains_shows_how_far_it_is_and_how_long_it_takes(layout: FamilyLayout) -> None:
    write_process(layout.process("base"), this_process().model_copy(update={"began": time.time() - 60}))
    assert _base(layout).state == "starting"
    spike = replace(SPIKE, step=2, tokens=2048)
    log(layout.metrics("base"), step(1), spike, replace(HELD_OUT, tokens=2048), step(3, memory=2**30))
    (layout.checkpoints("base") / "step-3").mkdir(parents=True)
    status = open_monitor(layout.root).read()
    base, *others = status.models
    assert (base.state, base.step, base.steps) == ("training", 3, 6)
    assert (base.first_tokens, base.tokens, base.last_tokens) == (0, 3072, 6144)
    assert base.fraction == 0.5
    assert base.tokens_per_second == 1024, "with the time for checkpoints"
    assert base.seconds_left == 3
    assert base.last == step(3, memory=2**30)
    assert (base.spikes, base.last_spike, base.checkpoint) == (1, 2, 3)
    assert base.held_out is not None
    assert base.held_out.losses == {"prose": 3.5}
    assert {(model.state, model.parent, model.step) for model in others} == {("waiting", "base", 0)}
    assert status.is_live
    left = 3072 + sum(RECIPE.own_tokens(model.model) for model in others)
    assert status.seconds_left == left / 1024
    assert json.loads(json.dumps(status.to_json()))["models"][0]["fraction"] == 0.5


def test_each_end_of_training_is_told_apart(layout: FamilyLayout) -> None:
    log(layout.metrics("base"), step(1), step(2))
    path = layout.process("base")
    assert _base(layout).state == "training", "an earlier version writes no process.json"
    os.utime(layout.metrics("base"), (1, 1))
    assert _base(layout).state == "silent"
    for outcome in ("stopped", "failed"):
        write_process(path, this_process().after(outcome, "why"))
        assert (_base(layout).state, _base(layout).reason) == (outcome, "why")
    write_process(path, _gone())
    status = open_monitor(layout.root).read()
    assert (status.models[0].state, status.is_live, status.seconds_left) == ("killed", False, None)
    elsewhere = this_process().model_copy(update={"host": "another", "began": 0.0})
    write_process(path, elsewhere)
    assert _base(layout).state == "silent"
    log(layout.metrics("base"), step(3), at=2)
    assert _base(layout).state == "training", "as new records say"
    (layout.checkpoints("base") / "step-6").mkdir(parents=True)
    base = _base(layout)
    assert (base.state, base.fraction) == ("done", 1.0)


def test_between_two_models_the_family_still_trains(layout: FamilyLayout) -> None:
    write_process(layout.process("base"), this_process().after("finished", ""))
    status = open_monitor(layout.root).read()
    assert status.models[0].state == "done"
    assert status.is_live


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    process = this_process()
    assert process.is_alive
    if process.born:
        assert not process.model_copy(update={"born": "1"}).is_alive


def test_a_monitor_reads_only_what_is_new_and_all_of_it_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    tail.update()
    assert tail.steps == []
    log(path, step(1), SPIKE, step(4))
    tail.update()
    assert ([record.step for record in tail.steps], tail.spikes) == ([1, 4], 1)
    with path.open("a") as file:
        line = json.dumps(asdict(step(5)))
        file.write(line[:30])
        file.flush()
        tail.update()
        assert [record.step for record in tail.steps] == [1, 4], "a line that is being written waits"
        file.write(f"{line[30:]}\n")
    tail.update()
    assert [record.step for record in tail.steps] == [1, 4, 5]
    log(path, *(step(number, loss=1.0) for number in range(2, 9)), at=1)
    tail.update()
    assert ([record.step for record in tail.steps], tail.spikes) == ([*range(1, 9)], 0)
    path.unlink()
    tail.update()
    assert tail.steps == []


def test_a_long_file_costs_memory_for_its_last_records_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before, after = json.dumps(asdict(step(1))).split('"step": 1,')
    path.write_text("".join(f'{before}"step": {number},{after}\n' for number in range(1, 40_001)))
    assert path.stat().st_size > 2 * (1 << 22), "more than a block"
    tail = MetricsTail(path)
    tail.update()
    assert [record.step for record in tail.steps] == [*range(39_951, 40_001)]


def test_a_folder_without_training_and_a_damaged_file_are_named(layout: FamilyLayout, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no training has begun here"):
        open_monitor(tmp_path / "none")
    with pytest.raises(ModelError, match="no training has begun here"):
        open_monitor(layout.root / "other")
    assert [model.model for model in open_monitor(layout.root / "v1.1").read().models] == ["v1.1"]
    layout.metrics("base").parent.mkdir()
    layout.metrics("base").write_text("{}\n")
    with pytest.raises(TrainingError, match=r"base.metrics\.jsonl: .*this line is not a training record"):
        _base(layout)
    layout.metrics("base").unlink()
    layout.process("base").write_text("{}")
    with pytest.raises(TrainingError, match=r"process\.json: host: is missing; delete it"):
        _base(layout)


def test_a_monitor_needs_no_torch() -> None:
    code = "import tinyllama.monitor, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
