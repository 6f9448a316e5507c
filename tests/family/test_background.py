"""Scores during training come from copies, by a process that training does not wait for."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.evaluation.conftest import write_rows
from tinyllama.checkpoint.format import steps_saved
from tinyllama.evaluation.record_folder import read_records_by_tokens
from tinyllama.family.background import COPIES, BackgroundEvaluation, evaluate_copies, found_lines
from tinyllama.plan import compile_plan, summarize
from tinyllama.recipe import Evaluation
from tinyllama.record_files import write_record
from tinyllama.report.figures import score_figures
from tinyllama.report.run_data import read_run
from tinyllama.report.samples import SamplesFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily


UNDISTURBED = """
import runpy, tinyllama.processors
tinyllama.processors.stay_behind = lambda: None
runpy.run_module("tinyllama.family.background", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process run beside others, which would take all of its core from it at its own priority."""
    real = subprocess.Popen

    def start(program: list[str], **keywords: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401  # Popen's
        if program[2:4] != ["-m", "tinyllama.family.background"]:
            return real(program, **keywords)
        return real([*program[:2], "-c", UNDISTURBED, *program[4:]], **keywords)

    monkeypatch.setattr("tinyllama.family.background.subprocess.Popen", start)


@pytest.mark.usefixtures("undisturbed")
def test_a_run_is_scored_by_tokens_while_it_trains_and_the_report_shows_it(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    data = tmp_path / "rows"
    data.mkdir()
    write_rows(data)
    asked = ("evaluation.tasks_every=2K", f"evaluation.data={data}", "evaluation.tasks=[boolq]")
    family = make_family("family", *asked, "checkpoints.keep=1")
    family.train("base")
    run = family.folder / "base"
    evaluate_copies(run, data, ["boolq"])  # waits for those that train started
    records = read_records_by_tokens(family.folder / "evaluation/base/by_tokens")
    assert records, (run / f"{COPIES}.log").read_text()
    assert {record.source.step for record in records} >= {steps_saved(run / "checkpoints")[-1]}
    assert all(record.scores.measured["boolq"].questions == 4 for record in records)
    assert steps_saved(run / COPIES) == []
    data_of_report = read_run(family.folder, family.recipe)
    figures = {figure.name: figure for _, figure in score_figures(data_of_report)}
    assert list(figures) == ["score-boolq-by-tokens", "right-bits-by-tokens", "margin-by-tokens"]
    tokens = [record.source.tokens for record in records]
    assert all(figure.lines[0].x == tokens for figure in figures.values())
    chance = figures["score-boolq-by-tokens"].lines[-1]
    assert (chance.name, list(chance.y), chance.model) == ("chance", [50, 50], None)
    assert figures["right-bits-by-tokens"].lines[0].y == [
        record.scores.measured["boolq"].right_bits for record in records
    ]


@pytest.mark.usefixtures("undisturbed")
def test_the_prompts_are_continued_while_a_run_trains(
    make_family: MakeFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = ("evaluation.samples_every=2K", "evaluation.prompts=['Once upon', '1 + 1']", "evaluation.tasks=[boolq]")
    family = make_family("family", *asked, f"evaluation.data={tmp_path}", "logging.tensorboard=true")
    (tmp_path / "random.py").write_text("raise SystemExit('the own program was run')\n")
    monkeypatch.chdir(tmp_path)
    family.train("base")
    run, folder = family.folder / "base", family.folder / "evaluation/base/by_tokens"
    evaluate_copies(run, tmp_path, ["boolq"])  # waits for those that train started
    assert "the own program" not in (run / f"{COPIES}.log").read_text()
    assert sorted(path.name for path in (run / COPIES).iterdir()) == [".lock"]
    written = read_run(family.folder, family.recipe).samples_by_tokens["base"]
    assert written[-1][0] == 6144  # earlier ones depend on how fast checkpoints are written
    planned = summarize(compile_plan(family.recipe), family.recipe).sampled_at
    assert {tokens for tokens, _ in written} <= set(planned)
    for _, samples in written:
        assert list(samples) == ["Once upon", "1 + 1"]
        assert all(texts["base"] for texts in samples.values())
    assert not list(folder.glob("*/record.json"))  # no tasks were asked for during training
    events = EventAccumulator(str(run / "tensorboard/evaluation"), {"tensors": 0}).Reload()
    assert events.Tensors("samples/1/text_summary")[-1].step == 6144
    for tokens in (path.name for path in folder.iterdir()):
        said += found_lines("base", folder / tokens)
    assert f"  base at 6.144K: 'Once upon' → {written[-1][1]['Once upon']['base']!r}" in said


def test_a_run_says_what_was_measured_since_it_last_looked(make_family: MakeFamily) -> None:
    family, said = make_family(), list[str]()
    run = family.folder / "base"
    watch = BackgroundEvaluation(run, Evaluation(every=1, samples_every=9), said.append)
    file = SamplesFile(inputs="", samples={"Hi": {"base": " there"}})
    folder = family.folder / "evaluation/base/by_tokens/2048"
    folder.mkdir(parents=True)
    write_record(folder / "samples.json", file)
    watch.close()
    watch.close()
    assert said == ["  base at 2.048K: 'Hi' → ' there'"]


def test_a_checkpoint_that_is_pruned_before_it_is_copied_leaves_the_next_one_due(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, started = make_family(), list[int]()
    family.train("base")
    run = family.folder / "base"
    listed = [[], [6, 7], [6, 8]]
    monkeypatch.setattr("tinyllama.family.background._steps", lambda _folder: listed.pop(0))
    monkeypatch.setattr(BackgroundEvaluation, "_start", lambda _self: started.append(1))
    watch = BackgroundEvaluation(run, Evaluation(every=1, samples_every=9), lambda _line: None)
    watch.close()
    assert not started
    assert not list(run.glob(f"{COPIES}/*"))
    shutil.copytree(run / "checkpoints/step-6", run / "checkpoints/step-8")
    watch.close()
    assert started
    assert steps_saved(run / COPIES) == [8]
