"""Each benchmark runs, at a shape so small that its figures mean nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.evaluation.conftest import write_llama, write_rows

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them leave results; text is prepared once."""
    return tmp_path_factory.mktemp("benchmarks")


def run(name: str, out: Path, *words: str) -> dict[str, Any]:
    """A benchmark's result; nothing is compiled, which would take most of the time."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--out", str(out), *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    assert (out / f"{name}.md").read_text() in done.stdout
    return document


def test_training_is_compared_with_the_trainer_from_the_same_weights_and_rows(out: Path) -> None:
    engines = run("train", out)["tiny"]["engines"]
    assert set(engines) >= {"tinyllama train", "transformers Trainer, fp32", "plain loop, tuned"}
    losses = [engine["losses"][:3] for engine in engines.values()]
    assert all(one == pytest.approx(losses[0], abs=0.02) for one in losses)
    assert all(engine["tokens_per_second"] > 0 for engine in engines.values())


@pytest.fixture(scope="module")
def page(out: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What the command for several benchmarks prints of one, and the page that it writes."""
    file = tmp_path_factory.mktemp("page") / "benchmarks.md"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "all.py"), "step", "--quick", "--out", str(out), "--page", str(file)],
        check=True,
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1"},
    )
    return done.stdout, file.read_text()


def test_the_page_holds_the_last_results(out: Path, page: tuple[str, str]) -> None:
    printed, written = page
    result = (out / "step.md").read_text()
    assert "## Where a step's time goes" in result
    assert result in printed
    assert result in written


@pytest.mark.usefixtures("page")
def test_every_part_of_a_step_is_told_apart(out: Path) -> None:
    parts = json.loads((out / "step.json").read_text())["tiny"]["ms"]
    assert {"products of the head", "softmax of the loss", "products of the blocks", "attention"} < parts.keys()
    assert parts["clipping and update"] > 0


def test_the_gpu_benchmark_runs_end_to_end_on_a_processor(out: Path) -> None:
    found = run("gpu", out, "--minutes", "60")
    names = [one["name"] for one in found["found"]]
    assert names.count("tinyllama train") == 3, "bf16, fp8, and many passes"
    assert all(claim["holds"] for claim in found["claims"])
    assert len(found["claims"]) == 1
    assert "transformers, bf16, compiled" in names
    assert all(one["tokens_per_second"] > 0 and one["memory"] > 0 for one in found["found"])
    assert found["left_out"] == {}


def test_generation_is_compared_with_transformers_in_both_its_ways(out: Path) -> None:
    engines = run("generate", out)["models"]["tiny"]
    for name in ("tinyllama", "transformers", "transformers, static cache + compile"):
        assert engines[name]["first_ids_in_common"] == 4
    assert engines["transformers"]["our_first_is_x"] > 0


@pytest.mark.slow
def test_evaluation_is_compared_with_lm_eval_on_every_model_given(out: Path, tmp_path: Path) -> None:
    for name in ("model", "rows"):
        (tmp_path / name).mkdir()
    model, data = str(write_llama(tmp_path / "model")), str(write_rows(tmp_path / "rows"))
    given = [word for name in ("small", "again") for word in ("--folder", name, model, "0")]
    found = run("evaluate", out, "--data", data, *given)
    assert list(found["models"]) == ["small", "again"]
    for measured in found["models"].values():
        assert measured["agreement"]["tinyllama"]["questions"] == 7
        assert measured["agreement"]["tinyllama"]["other_choices"] == 0
        assert set(measured["seconds"]) >= {"tinyllama", "lm_eval, batch 1"}
    required = [claim["text"] for claim in found["claims"]]
    assert required[:2] == [
        "small: as fast as lm_eval at its best batch size, times",
        "small: questions answered otherwise",
    ]


def write_text(folder: Path, documents: Iterable[str]) -> list[str]:
    """Write documents into two files, every other one into each; their names."""
    lines = [json.dumps({"text": document}) for document in documents]
    files = [folder / f"{part}.jsonl.zst" for part in range(2)]
    for part, file in enumerate(files):
        file.write_bytes(zstandard.ZstdCompressor().compress("\n".join(lines[part::2]).encode()))
    return list(map(str, files))


def test_preparation_keeps_every_document_and_is_compared_with_the_tokenizer_alone(
    out: Path, prepared: Path, tmp_path: Path
) -> None:
    files = write_text(tmp_path, (f"Line {index} says </s>.\n" for index in range(120)))
    model = str(prepared / "tokenizer" / "tokenizer.model")
    found = run("corpus", out, "--data", *files, "--tokenizer", model, "--workers", "2", "--exact")
    ours, bare = (found["reports"][name][0] for name in ("tinyllama prepare", "bare tokenizer"))
    assert ours["documents"] == bare["documents"] == found["exact"]["engine"]["checked"] == 120
    assert ours["tokens"] == bare["tokens"] + 2 * 120, "BOS and EOS of each document"
    assert ours["bytes"] == bare["bytes"]


def test_near_copies_are_dropped_where_they_are_looked_for(out: Path, prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("rensa", reason="the extra quality")
    texts = [" ".join(f"{word * 31 % 97}x{index}" for word in range(90)) for index in range(60)]
    files = write_text(tmp_path, [*texts, *(f"{text} end" for text in texts[:9])])
    model = str(prepared / "tokenizer" / "tokenizer.model")
    reports = run("copies", out, "--data", *files, "--tokenizer", model)["reports"]
    kept = {name: found[0]["documents"] for name, found in reports.items()}
    assert kept["tinyllama prepare"] == 69
    assert kept["tinyllama prepare, deduplicate: minhash"] == 60


def test_a_benchmark_without_what_it_needs_says_so_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "evaluate.py"), "--quick", "--data", str(tmp_path / "absent")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith(f"skipped: there is no {tmp_path / 'absent'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["feed", "startup", "quality", "lookup", "steady"])
def test_a_benchmark_measures_what_it_claims(name: str, out: Path) -> None:
    assert all(claim["value"] >= 0 for claim in run(name, out)["claims"])


@pytest.mark.slow
def test_spans_with_and_without_a_checkpoint_are_compared_in_one_run(out: Path) -> None:
    found = run("checkpoint", out)
    assert [len(found["seconds"][name]) for name in ("writing", "not writing")] == [2, 2]
    assert all(seconds > 0 for pairs in found["seconds"].values() for pair in pairs for seconds in pair)
