"""Peak memory of exporting a model of TinyLlama's shape, 1.1B random weights, from a checkpoint.

    python benchmarks/export.py FOLDER

FOLDER is a new one; it takes 18 GB while this runs and is removed. Each form is exported by a process of its own, the
gates included. Memory is what the process holds itself (anonymous pages, sampled every 20 ms); what it maps of files,
the machine may take back at any time, and is given beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from tinyllama.checkpoint.format import verify
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.export import ModelInfo, export_gguf, export_model
from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import CONFIG, config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.formats.open import open_model
from tinyllama.model.stored_weights import parameter_shapes
from tinyllama.recipe import load_recipe
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model
from tinyllama.train.import_start import import_start

if TYPE_CHECKING:
    from tinyllama.recipe import Recipe

FORMS = ("hf", "gguf-F16", "gguf-Q8_0")


def main() -> None:
    """Make the checkpoint, export it in each form, and print JSON."""
    parser = argparse.ArgumentParser(description="Measure the memory that exporting takes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=FORMS, help="only this one, of a checkpoint that is there")
    asked = parser.parse_args()
    recipe = load_recipe("continue", [f"start.model={asked.folder / 'source'}"])
    if asked.form is not None:
        print(json.dumps(_measured(recipe, asked.folder, asked.form)))
        return
    asked.folder.mkdir()
    try:
        _make_checkpoint(recipe, asked.folder)
        print(json.dumps({form: _in_a_process(asked.folder, form) for form in FORMS}, indent=2))
    finally:
        shutil.rmtree(asked.folder)


def _make_checkpoint(recipe: Recipe, folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    config = config_of_shape(recipe.model, dtype=torch.bfloat16, bos_id=1, eos_id=2)
    write_json(source / CONFIG, config)
    write_weights(_Random(recipe), recipe.model, source, torch.bfloat16)
    texts = [str(raw.data) for raw in islice(read_builtin("docstrings"), 20)]
    (folder / "tokenizer.model").write_bytes(train_model(texts, 600))
    import_start(
        recipe, open_model(source), folder / "family", SentencePieceTokenizer(folder / "tokenizer.model").sha256
    )


class _Random(dict[str, torch.Tensor]):
    """Weights that are drawn when they are asked for."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self._sizes = parameter_shapes(recipe.model)

    def __missing__(self, name: str) -> torch.Tensor:
        return torch.randn(self._sizes[name], dtype=torch.bfloat16) / 50


def _in_a_process(folder: Path, form: str) -> dict[str, Any]:
    done = subprocess.run(  # this program
        [sys.executable, __file__, str(folder), "--form", form], check=True, capture_output=True, text=True
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _measured(recipe: Recipe, folder: Path, form: str) -> dict[str, Any]:
    import transformers  # noqa: F401  # part of the baseline

    (found,) = (folder / "family").glob("*/checkpoints/step-*")
    weights = CheckpointWeights(verify(found))
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    target = folder / form
    with _Peak() as peak:
        begun = time.perf_counter()
        if form == "hf":
            export_model(
                weights, folder=target, recipe=recipe, name="base", tokenizer=tokenizer, card="", dtype=torch.float32
            )  # fmt: skip
        else:
            kind = form.removeprefix("gguf-")
            export_gguf(
                weights,
                shape=recipe.model,
                tokenizer=tokenizer,
                folder=target,
                kind=kind,
                about=ModelInfo("x", "other"),
            )
        seconds = time.perf_counter() - begun
    shutil.rmtree(target)
    return {"seconds": round(seconds), **peak.megabytes}


class _Peak:
    """How much more the process held, and mapped of files, inside a block than before it."""

    def __enter__(self) -> Self:
        self._before = self._most = _held()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._most = {key: max(value, self._most[key]) for key, value in _held().items()}

    @property
    def megabytes(self) -> dict[str, int]:
        return {key: (value - self._before[key]) // 1024 for key, value in self._most.items()}


def _held() -> dict[str, int]:
    """Kilobytes, from Linux's /proc."""
    names = {"RssAnon:": "held_mb", "RssFile:": "mapped_mb"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {names[line[0]]: int(line[1]) for line in lines if line[0] in names}


if __name__ == "__main__":
    main()
