import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import SMALL
from tests.fidelity.conftest import MODEL
from tinyllama.cli.commands import app
from tinyllama.corpus.digest import from_limbs, limbs
from tinyllama.family import Family
from tinyllama.fidelity import Outcome, audit, open_runs
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.sampler import Sampler, StepRows
from tinyllama.train.feeder import read_step
from tinyllama.train.metrics import HeldOutRecord, JsonlLogger, Record, StepRecord, chain_start, read_metrics
from tinyllama.train.ranks import Ranks

FORK = 6
"""Steps of the base."""


@pytest.fixture(scope="module")
def base_again(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a second training of the base."""
    folder = tmp_path_factory.mktemp("again") / "family"
    shutil.copytree(prepared, folder)
    Family(load_recipe("nano", SMALL), folder).train("base")
    return folder / "base"


def failures(run: Path, model: str = MODEL) -> list[Outcome]:
    """What differs, in order of steps."""
    found = audit(open_runs(run / model)[0])
    return sorted((one for one in found if one.result == "FAIL"), key=lambda one: one.step or 0)


def recorded_otherwise(run: Path, change: Callable[[Record], Record | None]) -> None:
    """Let a model's training have recorded something else from the start: chain and checkpoints agree with it."""
    metrics, heads = run / MODEL / "metrics.jsonl", dict[int, str]()
    records, fork = list(read_metrics(metrics)), chain_start(metrics)
    metrics.unlink()
    logger = JsonlLogger(metrics, 0, fork)
    for record in map(change, records):
        if record is not None:
            logger.log(record)
            heads[record.step] = logger.head
    logger.close()
    for path in (run / MODEL / "checkpoints").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"chain": heads[manifest["step"]]}))


def fed(run: Path, step: int, digest: int) -> None:
    """Let a step have been fed rows of this digest."""
    text = from_limbs(limbs(digest))
    recorded_otherwise(
        run, lambda record: replace(record, digest=text) if record.step == step and record.kind == "step" else record
    )


def state_otherwise(run: Path, override: str) -> None:
    """Let the family's recipe have said something else."""
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe("nano", [*SMALL, override])))


def test_a_run_that_followed_its_plan_passes_every_check(run: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(run), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["passed"]
    assert set(found["models"]) == {"base", MODEL}
    assert {one["result"] for findings in found["models"].values() for one in findings} == {"pass"}


def test_the_command_fails_and_names_the_step(run: Path) -> None:
    recorded_otherwise(run, lambda record: None if record.step == 9 else record)
    done = CliRunner().invoke(app, ["audit", str(run)])
    assert "FAIL        steps: step 9: it is not recorded" in done.stdout
    assert getattr(done.exception, "exit_code", None) == 1
    assert f"{MODEL} differs from its plan first at step 9" in str(done.exception)


def test_a_swapped_shard_is_found_at_the_first_step_that_reads_it(run: Path) -> None:
    shard = run / "corpora/code/train-00000.bin"
    np.roll(np.fromfile(shard, "<u2"), 5).tofile(shard)
    plan = open_runs(run / MODEL)[0].plan
    first = int((plan.counts[:, plan.corpora.index("code")] > 0).argmax()) + 1
    assert [(one.check, one.step) for one in failures(run)] == [("rows", first)]


@pytest.mark.parametrize("field", ["loss", "mfu", "tokens"])
def test_an_edited_metric_is_found(run: Path, field: str) -> None:
    metrics = run / MODEL / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    (index,) = (i for i, line in enumerate(lines) if '"step", "step": 10,' in line)
    value = json.loads(lines[index])[field]
    lines[index] = lines[index].replace(f'"{field}": {value}', f'"{field}": {value + 1}')
    metrics.write_text("\n".join(lines) + "\n")
    assert ("chain", 10) in [(one.check, one.step) for one in failures(run)]


def test_a_dropped_measurement_is_found(run: Path) -> None:
    metrics = run / MODEL / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    records = list(map(json.loads, lines))
    measured = [index for index, record in enumerate(records) if record["kind"] == "held_out"]
    assert len(measured) > 1
    for index in measured:
        metrics.write_text("\n".join([*lines[:index], *lines[index + 1 :]]) + "\n")
        last = index == len(lines) - 1  # no line follows it, but the checkpoint knows it
        expected = ("checkpoint 14", 14) if last else ("chain", records[index + 1]["step"])
        assert expected in [(found.check, found.step) for found in failures(run)]


def test_shards_that_are_exchanged_between_corpora_are_found(run: Path) -> None:
    one, other = (run / f"corpora/{name}/train-00000.bin" for name in ("prose", "code"))
    data = one.read_bytes(), other.read_bytes()
    size = min(map(len, data))  # so that each file keeps its own, which opening it compares
    one.write_bytes(data[1][:size] + data[0][size:])
    other.write_bytes(data[0][:size] + data[1][size:])
    assert [(found.check, found.step) for found in failures(run, "base")] == [("rows", 1)]


def test_a_checkpoint_of_a_second_run_is_found(run: Path, base_again: Path) -> None:
    """Of the same recipe, seed and step."""
    shutil.rmtree(run / "base/checkpoints/step-6")
    shutil.copytree(base_again / "checkpoints/step-6", run / "base/checkpoints/step-6")
    assert [(found.check, found.step) for found in failures(run, "base")] == [("checkpoint 6", 6)]


def test_a_base_that_was_replaced_is_found(run: Path, base_again: Path) -> None:
    """By another training of the same recipe, which passes for itself."""
    shutil.rmtree(run / "base")
    shutil.copytree(base_again, run / "base")
    assert not failures(run, "base")
    assert [(found.check, found.step) for found in failures(run)] == [("fork", FORK)]
    shutil.rmtree(run / "base")
    assert [found.result for found in audit(open_runs(run / MODEL)[0]) if found.check == "fork"] == ["no evidence"]


def test_a_flipped_byte_of_a_weight_is_found(run: Path) -> None:
    file = max((run / MODEL / "checkpoints/step-12").glob("*.distcp"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (found,) = failures(run)
    assert (found.check, found.step) == ("checkpoint 12", 12)
    assert f"{file.name}: differs from its manifest" in found.detail


def test_another_seed_is_found_at_the_first_step(run: Path) -> None:
    state_otherwise(run, "seed=2")
    found = failures(run, "base")
    assert [(one.check, one.step) for one in found] == [("rows", 1), ("checkpoint 6", 6)]
    assert "seed = " in found[1].detail


def test_a_changed_share_is_found_at_the_first_step_that_follows_it(run: Path) -> None:
    before = open_runs(run / MODEL)[0].plan
    state_otherwise(run, f"variants.{MODEL}={{prose: 50%, code: 20%, arithmetic: 30%}}")
    after = open_runs(run / MODEL)[0].plan
    step = int((before.counts != after.counts).any(axis=1).argmax()) + 1
    assert step > FORK
    assert (failures(run)[0].check, failures(run)[0].step) == ("shares", step)


def test_a_skipped_step_is_found(run: Path) -> None:
    recorded_otherwise(run, lambda record: None if record.step == 9 else record)
    assert [(one.check, one.step) for one in failures(run)] == [("steps", 9)]


def test_a_checkpoint_of_another_run_or_step_is_found(run: Path) -> None:
    checkpoints = run / MODEL / "checkpoints"
    path = checkpoints / "step-12/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chain": "0" * 64}))  # trained beside, as well
    assert [(one.check, one.step) for one in failures(run)] == [("checkpoint 12", 12)]
    shutil.rmtree(checkpoints / "step-12")
    shutil.copytree(checkpoints / "step-14", checkpoints / "step-12")
    assert [(one.check, one.step) for one in failures(run)] == [("checkpoint 12", 12)]


def test_another_tokenizer_is_found_at_the_first_step(run: Path) -> None:
    with (run / "tokenizer/tokenizer.model").open("ab") as file:
        file.write(b"\xfa\x3f\x01x")  # an unknown field
    assert (failures(run)[0].check, failures(run)[0].step) == ("corpora", 1)


def test_a_repeated_row_is_found(run: Path) -> None:
    class Faulty(Sampler):
        def step(self, step: int) -> StepRows:
            corpus, row = super().step(step)
            return StepRows(np.append(corpus[:1], corpus[:-1]), np.append(row[:1], row[:-1]))

    opened = open_runs(run / MODEL)[0]
    sampler = Faulty(opened.plan, opened.recipe.seed, {name: len(rows) for name, rows in opened.rows.items()})
    fed(run, 9, read_step(opened.plan, sampler, opened.rows, 8).digest)
    assert [(one.check, one.step) for one in failures(run)] == [("rows", 9)]


def test_another_learning_rate_is_found(run: Path) -> None:
    recorded_otherwise(
        run,
        lambda record: replace(record, lr=record.lr * 1.001) if record.kind == "step" and record.step > 8 else record,
    )
    assert [(one.check, one.step) for one in failures(run)] == [("learning rate", 9)]


def test_a_rank_with_the_rows_of_another_is_found(run: Path) -> None:
    opened = open_runs(run / MODEL)[0]
    parts = [read_step(opened.plan, opened.sampler, opened.rows, 8, Ranks(rank, 2)).digest for rank in (0, 1)]
    fed(run, 9, sum(parts))
    assert not failures(run)
    fed(run, 9, 2 * parts[0])
    assert [(one.check, one.step) for one in failures(run)] == [("rows", 9)]


def test_a_run_that_resumes_continues_the_chain_from_its_checkpoint(run: Path) -> None:
    """As after a crash: records of steps past the last good checkpoint are replaced."""
    metrics = run / MODEL / "metrics.jsonl"
    before = [(one.step, one.digest) for one in read_metrics(metrics) if isinstance(one, StepRecord)]
    shutil.rmtree(run / MODEL / "checkpoints/step-14")
    with metrics.open("a") as file:
        file.write('{"kind": "step", "st')
    Family(load_recipe("nano", SMALL), run).train(MODEL)
    assert [(one.step, one.digest) for one in read_metrics(metrics) if isinstance(one, StepRecord)] == before
    assert not failures(run)


def test_of_an_older_run_it_says_what_there_is_no_evidence_for(run: Path) -> None:
    metrics = run / MODEL / "metrics.jsonl"
    older = [json.loads(line) for line in metrics.read_text().splitlines()]
    texts = [json.dumps({k: v for k, v in line.items() if k not in {"digest", "chain"}}) for line in older]
    metrics.write_text("\n".join(texts) + "\n")
    for path in (run / MODEL / "checkpoints").glob("*/manifest.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chain"}))
    found = audit(open_runs(run / MODEL)[0])
    without = {one.check for one in found if one.result == "no evidence"}
    assert without == {"chain", "fork", "rows", "checkpoint 12", "checkpoint 14"}
    assert not failures(run)
    logger = JsonlLogger(metrics, 14)  # a resumed one has a chain from there on
    logger.log(HeldOutRecord(step=14, tokens=1, losses={}))
    logger.close()
    assert not failures(run)


def test_only_some_steps_are_read_again_if_asked(run: Path) -> None:
    shutil.rmtree(run / "corpora/code")
    opened = open_runs(run / "base")[0]
    (found,) = (one for one in audit(opened, samples=2) if one.check == "rows")
    assert (found.result, found.detail) == ("pass", "of 2 steps: those of plan, seed and corpora")
    assert {one.result for one in audit(open_runs(run / MODEL)[0]) if one.check == "rows"} == {"no evidence"}
