import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.command import run
from tests.conftest import SMALL
from tests.evaluation.conftest import write_rows
from tests.evaluation.hub_rows import seven_sets
from tests.export.hub_stand_in import stand_in_hub
from tests.field.commands import Commands
from tinyllama.evaluation.catalogue import GROUPS
from tinyllama.recipe import load_recipe, shipped_recipes

SET = [word for override in (*SMALL, "evaluation.tasks=[commonsense]") for word in ("--set", override)]


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small family, reproduced by the command where a hub gives the tasks' data."""
    root = tmp_path_factory.mktemp("cli")
    subprocess.run(["cp", "-r", str(prepared), str(root / "family")], check=True)  # noqa: S607
    with stand_in_hub() as hub, Commands(imports=("tests.patient_hub",)) as commands:
        hub.repositories = seven_sets(write_rows(tmp_path_factory.mktemp("rows")))
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "TINYLLAMA_CACHE": str(root / "cache"),
        }
        arguments = ("reproduce", "nano", "--run", "family", "--json", *SET)
        done = commands.run(*arguments, cwd=root, env=os.environ | settings, seconds=300)
    summary = json.loads(done.succeeded())
    assert summary == json.loads((root / "family/summary.json").read_text())
    return root / "family"


def test_reproduce_leaves_exports_report_and_summary(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["models"] == ["base", "v1.1", "math_code", "chinese"]
    assert set(summary["bits_per_byte"]["chinese"]) == {"prose", "code", "arithmetic", "chinese"}
    assert summary["tokens"] == {"base": 6144, "v1.1": 20480, "math_code": 20480, "chinese": 20480}
    phases = {"prepare", "evaluate", "export", *(f"train {model}" for model in summary["models"])}
    assert set(summary["seconds"]) == phases
    for model, folder in summary["exports"].items():
        names = {path.name for path in (trained / folder).iterdir()}
        assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "README.md"}, model
    assert (trained / "report.html").stat().st_size > 100_000


def test_a_silent_hub_costs_seconds_and_one_line(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "family")
    connections = list[socket.socket]()

    def accept(server: socket.socket) -> None:
        with suppress(OSError):  # of a closed socket
            while True:
                connections.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as silent:
        Thread(target=accept, args=(silent,), daemon=True).start()
        done = run(
            "reproduce", "nano", "--run", "family", *SET,
            cwd=tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}", HF_HUB_OFFLINE="0",
            TINYLLAMA_CACHE=str(tmp_path / "cache"), HF_HOME=str(tmp_path / "hub"),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Each question is given up after four seconds (tests/test_hub.py).
    assert len(connections) <= 2, "the hub is asked before training and before evaluation"
    assert (done.stdout + done.stderr).count("none from the hub: ") == 1
    assert "note: evaluation.tasks: no score for hellaswag, openbookqa, " in done.stderr
    assert "task scores" not in done.stdout


def test_reproduce_again_does_nothing(trained: Path) -> None:
    kept = [
        trained / "exports/base/model.safetensors",
        trained / "evaluation/base/record.json",
        trained / "seconds.json",
    ]
    before = [path.stat().st_mtime_ns for path in kept]
    again = run(
        "reproduce", "nano", "--run", "family", *SET, cwd=trained.parent, TINYLLAMA_CACHE=str(trained.parent / "cache")
    )
    assert again.returncode == 0
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert "held-out bits per byte" in again.stdout
    assert "HellaSwag" in again.stdout
    assert "TinyLlama-1.1B v1.1" not in again.stdout, "published scores stand beside models of their size"
    assert "evaluating" not in again.stderr


def test_every_model_has_the_seven_scores_where_a_hub_gives_the_data(trained: Path) -> None:
    for tasks in json.loads((trained / "summary.json").read_text())["tasks"].values():
        assert tasks.pop("average") is not None
        assert [tasks[name]["questions"] for name in GROUPS["commonsense"]] == [4] * 7


def test_generate_continues_a_prompt_repeatably_and_the_export_equals_the_run(trained: Path) -> None:
    models = ("exports/math_code", "math_code", "exports/math_code")
    done = [run("generate", trained / model, "Return the", "--max-new-tokens", "12", "--seed", "1") for model in models]
    assert [one.returncode for one in done] == [0, 0, 0], done[0].stderr
    assert len({one.stdout for one in done}) == 1
    assert done[0].stdout.startswith("Return the")
    assert len(done[0].stdout) > len("Return the\n")


def test_the_cards_quick_start_runs_unchanged_on_all_four_exports(trained: Path) -> None:
    summary, scripts = json.loads((trained / "summary.json").read_text()), []
    for model, folder in summary["exports"].items():
        card = (trained / folder / "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        placeholder = f"path/to/nano-{model}"
        assert placeholder in code
        scripts.append(code.replace(placeholder, str(trained / folder)))
    done = subprocess.run([sys.executable, "-c", "\n".join(scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Result: Return the") == 4


def test_evaluating_what_is_not_trained_is_refused(tmp_path: Path) -> None:
    done = run("evaluate", "nano", cwd=tmp_path)
    assert done.returncode == 2
    assert "no model of nano is trained in runs/nano" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_evaluate_prints_what_summary_holds(trained: Path) -> None:
    done = run("evaluate", "nano", "--run", "family", "--json", *SET, cwd=trained.parent)
    assert (
        json.loads(done.stdout)["bits_per_byte"] == json.loads((trained / "summary.json").read_text())["bits_per_byte"]
    )


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_planned_by_the_command(name: str) -> None:
    done = run("plan", name, "--json")
    assert done.returncode == 0, done.stderr
    assert [plan["variant"] or "base" for plan in json.loads(done.stdout)] == load_recipe(name).planned


def test_plan_writes_its_table(tmp_path: Path) -> None:
    done = run("plan", "nano", "--variant", "chinese", "--parquet", tmp_path / "plan.parquet")
    assert done.returncode == 0
    assert "cooldown" in done.stdout
    assert (tmp_path / "plan.parquet").stat().st_size > 1000


def test_a_users_own_language_gets_its_own_tokenizer(tmp_path: Path) -> None:
    done = run("tokenizer", "train", "nano", "--vocab-size", "400", "--out", tmp_path / "tokenizer")
    assert done.returncode == 0, done.stderr
    model = Path(done.stdout.strip())
    planned = run("plan", "nano", "--set", f"tokenizer={{file: {model}}}", "--set", "model.vocab_size=400", "--json")
    assert planned.returncode == 0, planned.stderr


def test_a_tokenizer_is_not_trained_over_somebody_elses_files(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("mine")
    done = run("tokenizer", "train", "nano", "--vocab-size", "400", "--out", tmp_path)
    assert done.returncode == 2
    assert "give another folder" in done.stderr
    assert (tmp_path / "tokenizer.model").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "nanno"], "did you mean 'nano'"),
        (["plan", "nano", "--variant", "x"], "no variant 'x'"),
        (["plan", "nano", "--set", "model.layrs=3"], "did you mean 'layers'"),
        (["plan", "nano", "--parquet", "x.parquet"], "name it with --variant"),
        (["plan", "nano", "--hardware", "h1000"], "did you mean 'h100-80g'"),
        (["plan", "nano", "--gpus", "2", "--price", "1"], "cannot use --gpus and --price without --hardware"),
        (["plan", "nano", "--mfu", "0.5"], "cannot use --mfu without --hardware; name a GPU"),
        (["rehearse", "nano", "--gpus", "1"], "cannot use --gpus without --hardware; name a GPU"),
        (["contaminated", ".", "--run", "x"], "cannot use --run with a corpus's folder, only with a recipe"),
        (["corpus", "inspect", "x", "--limit", "5"], "cannot use --limit without --origin"),
        (["train", "nano", "--variant", "x"], "no model 'x'"),
        (["generate", "/nowhere", "x"], "/nowhere"),
        (["plan"], "Missing argument"),
    ],
)
def test_a_users_mistake_is_exit_code_2_and_one_clear_message(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["plan", "nano"], ["recipes", "--json"], ["--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_one_clear_message(arguments: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinyllama", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "no space left on device; free space" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tinyllama", "recipes"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_unavailable_corpus_is_reported_and_the_rest_continues(prepared: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(prepared), str(tmp_path / "family")], check=True)  # noqa: S607
    subprocess.run(["rm", "-r", str(tmp_path / "family/corpora/chinese")], check=True)  # noqa: S607
    lacking = ["--set", "corpora.chinese.sources=[{builtin: manpages-zh}]"]
    done = run(
        "reproduce", "nano", "--run", "family", "--json", *SET, *lacking,
        "--set", "tokenizer.train.corpora=[prose, code, arithmetic]",
        cwd=tmp_path, PATH="/nowhere", PIP_NO_INDEX="1", PIP_FIND_LINKS="/nowhere",
        TINYLLAMA_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 2
    summary = json.loads(done.stdout)
    assert summary["models"] == ["base", "v1.1", "math_code"]
    assert "manpages-zh is unavailable, since dpkg-deb is not installed here" in done.stderr
    assert "pip failed on tencentcloud-sdk-python" in done.stderr
    assert "by-hand" in done.stderr
    assert "HF_HUB_OFFLINE is set" in summary["tasks"]["base"]["hellaswag"]["reason"]
    assert summary["tasks"]["base"]["average"] is None
