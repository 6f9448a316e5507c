"""What the benchmarks of `prepare` share: their text and tokenizer, and workers in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllama.files import write_atomic
from tinyllama.processors import available_cores
from tinyllama.tokenizer.convert import write_tokenizer_json
from tinyllama.tokenizer.llama2 import obtain_llama2

from .machine import WORKERS
from .results import standard_arguments
from .text import gather_text

if TYPE_CHECKING:
    import argparse


def preparation_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark of preparation takes."""
    parser = standard_arguments(description)
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="text, .jsonl.zst (default: gathered)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.model (default: Llama 2's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=available_cores())
    return parser


def preparation_job(asked: argparse.Namespace, name: str, every: int = 1) -> dict[str, Any]:
    """What workers are told, by the options of `preparation_arguments`; with `--quick`, `rounds` becomes 1.

    Args:
        asked: the options.
        name: the benchmark's.
        every: without `--data`, one of every `every` gathered files is used.

    Raises:
        SourceError: text or tokenizer cannot be fetched.
    """
    if asked.quick:
        asked.rounds = 1
    work: Path = asked.out / "work" / name
    return {
        "text": _one_folder(asked.data or gather_text(asked.out / "work" / "text")[::every], work / "text"),
        "tokenizer": _tokenizer(asked.tokenizer, work / "tokenizer"),
        "out": work / "out",
        "workers": asked.workers,
    }


def run_worker(script: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a worker on a job; returns its report, and removes what it made.

    Raises:
        RuntimeError: it failed; the message ends with its last output.
    """
    shutil.rmtree(job["out"], ignore_errors=True)
    command = [sys.executable, str(WORKERS / f"{script}.py"), json.dumps(job, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # our own script
    shutil.rmtree(job["out"], ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _one_folder(files: list[Path], folder: Path) -> Path:
    """A folder with links to some files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index, file in enumerate(files):
        (folder / f"{index:04d}.jsonl.zst").symlink_to(file.resolve())
    return folder.absolute()


def _tokenizer(model: Path | None, folder: Path) -> Path:
    """A folder with a tokenizer in both forms."""
    write_atomic(folder / "tokenizer.model", model.read_bytes() if model else obtain_llama2()[0])
    write_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")
    return folder.absolute()
