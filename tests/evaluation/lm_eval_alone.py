"""lm-eval's own command on local rows: its definitions, its json loader, its model; nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.catalogue import CATALOGUE
from tinyllama.evaluation.task_data import TASK_DATA

_FILES = {"arc_challenge": "arc/arc_challenge", "arc_easy": "arc/arc_easy", "boolq": "super_glue/boolq/default"}
"""Of a definition below lm-eval's tasks, where it is not <task>/<task>."""


def write_definitions(tasks: list[str], data: Path, folder: Path) -> Path:
    """lm-eval's definitions of tasks with nothing changed but where the rows are."""
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    folder.mkdir()
    for name in tasks:
        original = _FILES.get(name, f"{name}/{'default' if name == 'winogrande' else name}")
        split = TASK_DATA[name].split
        changes = {
            "include": str(root / f"{original}.yaml"),
            "task": name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str((data / TASK_DATA[name].file).resolve())}},
            "training_split": None,
        }
        if split == "test":
            changes["validation_split"] = None
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    return folder


def run_lm_eval(model: Path, data: Path, tasks: list[str], scratch: Path, limit: int | None = None) -> list[Answer]:
    """`lm_eval run --model hf` in a process of its own; its samples in the form of our answers."""
    how = ["--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    return _run(how, data, tasks, scratch, limit)


class ServedModel(NamedTuple):
    """A model of a running server."""

    address: str
    name: str
    folder: Path
    """Of its tokenizer."""
    context: int


def ask_server(model: ServedModel, data: Path, tasks: list[str], scratch: Path) -> list[Answer]:
    """`lm_eval run --model local-completions` in a process of its own, as docs/interop.md shows it."""
    arguments = (
        f"model={model.name},base_url={model.address}/completions,tokenizer={model.folder}"
        f",tokenizer_backend=huggingface,add_bos_token=True,max_length={model.context + 1}"
    )
    return _run(["--model", "local-completions", "--model_args", arguments], data, tasks, scratch, None)


def _run(how: list[str], data: Path, tasks: list[str], scratch: Path, limit: int | None) -> list[Answer]:
    definitions = write_definitions(tasks, data, scratch / "definitions")
    command = [
        sys.executable, "-m", "lm_eval", "run", *how, "--batch_size", "8",
        "--tasks", ",".join(tasks), "--include_path", str(definitions),
        "--log_samples", "--output_path", str(scratch / "out"),
        *([] if limit is None else ["--limit", str(limit)]),
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "cache"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    files = {name: next((scratch / "out").rglob(f"samples_{name}_*.jsonl")) for name in tasks}
    return [
        _answer(name, json.loads(line))
        for name, file in files.items()
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def _answer(task: str, sample: dict[str, Any]) -> Answer:
    return Answer(
        task=task,
        question=sample["doc_id"],
        requests=[[ask["arg_0"], ask["arg_1"]] for ask in sample["arguments"].values()],
        # Its logs spell numbers and flags as text.
        responses=[(float(logp), greedy == "True") for ((logp, greedy),) in sample["resps"]],
        scores={CATALOGUE[task].metric: sample[CATALOGUE[task].metric]},
    )
