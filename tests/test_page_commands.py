"""The commands of the pages run, in order, as they stand there, over one family that `nano` trains.

The pages speak of `mini` and of the flagship, which take minutes to months; `nano` stands for both, and other files for
those that a reader would have. What needs another program, a server or an account is in `NOT_RUN`, with its reason.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.constraints import ROOT
from tests.pages import PAGES, blocks, page_name, table_of_commands
from tests.shell_commands import programs
from tests.test_pages import RUN_BY

if TYPE_CHECKING:
    from pathlib import Path

LEGACY = ROOT / "tests/legacy/family-4bd9be0"
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
OWN_TASK = """\
task: my_task
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: ["cat", "dogs"]
doc_to_target: label
metric_list: [{metric: acc}]
"""
START = "extends: nano\nname: started\nstart: {model: runs/nano/exports/base, tokens: 0}\n"

STANDS_FOR = {
    r"(?<!diff nano )\bmini\b(?!-chat|\.)": "nano",
    r"\bmini-v1\.1": "nano-v1.1",
    r"(?<!plan )\btinyllama-v1\.1\b": "nano",
    r"import MODEL --recipe RECIPE\b": "import MODEL --recipe started.yaml --run runs/started",
    r"\bRECIPE\b": "nano",
    r"\bMODEL\b": "runs/nano/exports/v1.1",
    r"\bcorpora/english\b": "corpora/prose",
    r"/shared/": "runs/",
    r"s3://BUCKET/": "file://$TMPDIR/bucket/",
    r"step-300\b": "step-88",
    r"evaluations/a evaluations/b": "evaluations/nano_v1.1_step-88 evaluations/nano_v1.1_step-96",
    r"--step 100\.\.102": "--step 50..52",
    r"--step 100\b": "--step 50",
    r"--rank 1\b": "--rank 0",
    r"corpus\.jsonl:17": "json/decoder",
    r"the quick brown fox": "Return the",
    r"--nproc-per-node 4\b": "--nproc-per-node 2",
    r"--gpus 64$": "--gpus 8",
    r"^(tinyllama train nano\b)(?!.*--variant)": r"\1 --variant base",
    r"^(tinyllama train nano\b.*)": r"\1 --run runs/NAME",
    r"^(torchrun .*tinyllama train nano\b(?!.*--run).*)": r"\1 --run runs/ranks --variant base",
}
"""What stands for a page's words, in this order."""

NOT_RUN = {
    r"^(pip|python3? -m venv|\. )": "changes the environment; test_pages.py compares its extras with pyproject.toml",
    r"^make ": "a target of its own; test_pages.py compares it with the Makefile",
    r"^ollama ": "a program that registries do not have",
    r"^lm_eval ": "needs a server; make test-llamacpp",
    r"\btinyllama serve ": "needs llama.cpp or vLLM; make test-llamacpp",
    r"--precision Q4_K_M": "needs llama.cpp; make test-llamacpp",
    r"--fetch |lambada_openai": "needs the hub; tests/evaluation/test_hub_data.py has a stand-in",
    r"import TinyLlama/": "needs the hub; the command of docs/interop.md imports a folder",
    r"--executor ": "needs a cluster; make test-cluster",
    r"^tinyllama launch (?!.*--dry-run)": "needs Slurm; make test-slurm",
    r"^tinyllama publish (?!.*--dry-run)": "needs an account; tests/export/test_publishing.py has a stand-in",
    r" mine\b": "from a text of the reader; test_own_text_page.py runs the same over another",
}
"""Commands that this test leaves out, and why."""

SERVERS = {
    r"^tinyllama studio ": " --port 0",
    r"^tensorboard ": " --port 0",
}
"""Commands that end only when they are told to, and what is added to each."""

MODULES = {"tinyllama": "tinyllama", "torchrun": "torch.distributed.run", "tensorboard": "tensorboard.main"}
"""The programs that run, as modules of Python."""

WITH_OWN_TEST = {name for name in RUN_BY if name != "README.md"}
RUN = [page for page in PAGES if page_name(page) not in WITH_OWN_TEST and any(b.language == "sh" for b in blocks(page))]


def commands_of(page: Path) -> list[str]:
    """The commands of a page; of the README those of its table, since its blocks have a test of their own."""
    if page.name == "README.md":
        return table_of_commands(page)
    scripts = [block.text for block in blocks(page) if block.language == "sh"]
    return [line for script in scripts for line in re.sub(r"\\\n\s*", " ", script).splitlines() if list(programs(line))]


def is_run(command: str) -> bool:
    return not any(re.search(pattern, command) for pattern in NOT_RUN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family, and with the files that pages name."""
    folder = tmp_path_factory.mktemp("pages")
    fill(folder)
    return folder


def fill(folder: Path) -> None:
    """Train the family, and write what stands for a reader's files."""
    shutil.copytree(LEGACY / "data", folder / "data")
    shell("tinyllama reproduce nano", folder)
    shutil.copytree(folder / "runs/nano/corpora/prose", folder / "runs/nano/corpora/prose@2")
    exports = folder / "runs/nano/exports"
    shutil.copytree(exports / "base", folder / "some/folder")
    shutil.copytree(exports / "v1.1", folder / "runs/mini-chat")
    chat = folder / "runs/mini-chat"
    (chat / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    config = json.loads((chat / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 4096  # nano's context holds one answer
    (chat / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for model, name in (("some/folder", "model-Q8_0"), ("runs/mini-chat", "SmolLM2-135M-Instruct.Q8_0")):
        shell(f"tinyllama export {model} --format gguf --precision Q8_0", folder)
        (file,) = (folder / f"{model}-Q8_0-gguf").glob("*.gguf")
        file.rename(folder / f"{name}.gguf")
        shutil.rmtree(file.parent)

    (folder / "my_tasks").mkdir()
    rows = [{"question": f"the {index}", "label": index % 2} for index in range(4)]
    (folder / "my_tasks/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = OWN_TASK.replace("FILE", str(folder / "my_tasks/rows.jsonl"))
    (folder / "my_tasks/my_task.yaml").write_text(task, encoding="utf-8")
    (folder / "started.yaml").write_text(START, encoding="utf-8")


def script_of(command: str) -> str:
    """A script whose programs are those of this environment, whatever the PATH."""
    functions = " ".join(f'{name}() {{ "{sys.executable}" -m {module} "$@"; }};' for name, module in MODULES.items())
    return f"set -euo pipefail; {functions} {command}"


def environment(folder: Path) -> dict[str, str]:
    folders = {"HF_DATASETS_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}
    return os.environ | folders | {"NODES": "1", "GPUS": "2", "FIRST": "localhost"}


def shell(command: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", script_of(command)],  # noqa: S607
        cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def serve(command: str, folder: Path) -> None:
    """Start a server, wait for its address, and end it."""
    program, *words = shlex.split(command)
    running = subprocess.Popen(
        [sys.executable, "-m", MODULES[program], *words],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    printed = ""
    for line in running.stdout:
        printed += line
        if "http://" in line:
            break
    running.terminate()
    rest, _ = running.communicate(timeout=120)
    assert "http://" in printed, printed + rest


def run(shown: str, name: str, folder: Path) -> None:
    """Run a command as a page shows it.

    Args:
        shown: the command.
        name: of the family that it trains, if it trains one.
        folder: the one that `fill` has filled.
    """
    command = shown
    for pattern, replacement in STANDS_FOR.items():
        command = re.sub(pattern, replacement, command)
    command = command.replace("runs/NAME", f"runs/{name}")
    if server := [option for pattern, option in SERVERS.items() if re.search(pattern, command)]:
        serve(command + server[0], folder)
    else:
        shell(command, folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_the_commands_of_a_page_run(page: Path, folder: Path) -> None:
    for number, shown in enumerate(filter(is_run, commands_of(page))):
        run(shown, f"{page.stem}-{number}", folder)


def test_the_reasons_for_leaving_commands_out_are_needed() -> None:
    found = [command for page in PAGES for command in commands_of(page)]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command) for command in found), pattern


def test_most_commands_run() -> None:
    found = [command for page in RUN for command in commands_of(page) if command.startswith("tinyllama ")]
    assert len(list(filter(is_run, found))) >= 2 / 3 * len(found)
