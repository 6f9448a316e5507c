"""What commit 4bd9be0 wrote is read, kept and gone on from; see family-4bd9be0/README.md."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command import run

WRITTEN = Path(__file__).parent / "family-4bd9be0"
EXPECTED: dict[str, Any] = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
MODELS = tuple(EXPECTED["losses"])
TOLERANCE = 1e-6
"""Of a loss in nats: two units in the last place, since processors add in another order."""
PRECISION_OPTION = "--precision"


def tinyllama(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, which must end with an exit code."""
    done = run(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    return done


def read(path: Path) -> Any:  # noqa: ANN401  # any JSON value
    return json.loads(path.read_text(encoding="utf-8"))


def records(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] != "header"]


def losses(run: Path) -> dict[str, float]:
    """Step → loss, of steps that were left out too."""
    return {str(record["step"]): record["loss"] for record in records(run) if record["kind"] != "held_out"}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, with its checkpoints; recipe, text and data lie there, and the family in runs/legacy."""
    folder = tmp_path_factory.mktemp("legacy") / "copy"
    shutil.copytree(WRITTEN, folder)
    shutil.unpack_archive(folder / "checkpoints.zip", folder)
    return folder


@pytest.fixture(scope="module")
def run_again(family: Path) -> Path:
    """The complete family after the command that made it was run once more."""
    tinyllama(family, "reproduce", "legacy.yaml", "--data", "data/eval")
    return family / "runs/legacy"


def test_an_old_interrupted_run_resumes_and_ends_with_the_same_losses(family: Path) -> None:
    run, stopped = family / "runs/interrupted", EXPECTED["interrupted"]["step"]
    for part in ("corpora", "tokenizer"):
        shutil.copytree(family / "runs/legacy" / part, run / part)
    before = (run / "base/metrics.jsonl").read_bytes()
    assert len(losses(run / "base")) == stopped

    tinyllama(family, "train", "legacy.yaml", "--run", "runs/interrupted")

    assert (run / "base/metrics.jsonl").read_bytes().startswith(before), "a resume must not begin anew"
    for model in MODELS:
        assert losses(run / model) == pytest.approx(EXPECTED["losses"][model], rel=0, abs=TOLERANCE)
        made = records(run / model)
        assert [record["step"] for record in made if record["kind"] == "spike"] == EXPECTED["left_out"][model]
        held_out = {str(record["step"]): record["losses"] for record in made if record["kind"] == "held_out"}
        assert held_out.keys() == EXPECTED["held_out"][model].keys()
        for step, by_corpus in held_out.items():
            assert by_corpus == pytest.approx(EXPECTED["held_out"][model][step], rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["prose", "sums"])
def test_an_old_corpus_verifies(family: Path, name: str) -> None:
    tinyllama(family, "corpus", "verify", f"runs/legacy/corpora/{name}")


def test_old_results_are_kept_by_a_rerun(run_again: Path) -> None:
    written = WRITTEN / "runs/legacy"
    old, new = (read(folder / "summary.json") for folder in (written, run_again))
    for key in ("models", "corpora", "missing", "bits_per_byte", "tasks", "tokens", "fingerprints"):
        assert new[key] == old[key]
    assert new["bits_per_byte"] == EXPECTED["bits_per_byte"]
    kept = ("corpora/*/*", "tokenizer/*", "evaluation/*", "*/metrics.jsonl")
    paths = [path.relative_to(written) for pattern in kept for path in written.glob(pattern)]
    assert len(paths) > 20
    for path in paths:
        before, after = written / path, run_again / path
        assert after.read_bytes() == before.read_bytes(), path
        assert after.stat().st_mtime_ns == before.stat().st_mtime_ns, f"{path} was made again"


def test_an_old_family_is_exported_and_reported(run_again: Path) -> None:
    report = (run_again / "report.html").read_text(encoding="utf-8")
    for model in MODELS:
        assert model in report
        folder = run_again / "exports" / model
        assert read(folder / "config.json")["num_hidden_layers"] == 2
        assert (folder / "model.safetensors").stat().st_size > 4 * read(run_again / "summary.json")["parameters"]


def test_an_old_evaluation_record_is_read(family: Path) -> None:
    done = tinyllama(
        family, "evaluate", "runs/legacy/base", "--tasks", "arc_easy", "--data", "data/eval", "--out", "evaluations",
        PRECISION_OPTION, "bf16", "--json",
    )  # fmt: skip
    agreement = json.loads(done.stdout)["runs/legacy/base"]["against_fp32"]["arc_easy"]
    assert agreement["questions"] == 4
    assert 0 < agreement["largest_difference"] < 1


def test_a_changed_key_is_refused_by_name(family: Path) -> None:
    refused = tinyllama(family, "train", "legacy.yaml", "--set", "seed=3", code=2)
    assert "seed = 2" in refused.stderr
