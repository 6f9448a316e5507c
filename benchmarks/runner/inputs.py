"""What engines train on: a prepared family for `tinyllama train`, and the same weights and rows as files for others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tinyllama.corpus.manifest import open_corpus
from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import CONFIG, config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.model import Llama
from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Sampler
from tinyllama.train.feeder import read_step

from .process import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.corpus.rows import Rows
    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe

RECIPE = Path(__file__).parent.parent / "speed.yaml"
TINYLLAMA = [sys.executable, "-m", "tinyllama"]
_BOS, _EOS = 1, 2
"""Ids that SentencePiece gives the tokenizers it trains for us."""


def speed_family(work: Path, name: str, overrides: Sequence[str]) -> Path:
    """A new folder of the speed recipe with these overrides, in which text is prepared and nothing is trained.

    Args:
        work: where benchmarks keep what they make; text is prepared once for each vocabulary.
        name: of the folder.
        overrides: `key=value` as of `--set`.
    """
    of_text = [item for item in overrides if item.startswith(("model.vocab_size=", "tokenizer.", "corpora."))]
    text = _prepared(work, tuple(of_text))
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in ("tokenizer", "corpora"):
        (folder / part).symlink_to((text / part).resolve(), target_is_directory=True)
    return folder


@cache
def _prepared(work: Path, of_text: tuple[str, ...]) -> Path:
    """The family whose text has these overrides."""
    text = work / f"text-{sha256(' '.join(of_text).encode()).hexdigest()[:8]}"
    command = [*TINYLLAMA, "prepare", str(RECIPE), "--run", str(text), *_set(of_text)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # our own command
    return text


def tinyllama_train(name: str, family: Path, overrides: Sequence[str]) -> Engine:
    """`tinyllama train` on the speed recipe, as anyone starts it."""
    command = [*TINYLLAMA, "train", str(RECIPE), "--run", str(family), *_set(overrides)]
    return Engine(name, command, family, family / "base" / "metrics.jsonl")


def write_inputs(family: Path, folder: Path, overrides: Sequence[str], steps: int) -> None:
    """Write what other engines need to do the same as `tinyllama train` does in a family.

    Leaves config.json and model.safetensors (transformers' format, the initial weights in fp32), `inputs.npy` and
    `targets.npy` (ids [steps, batch, context]) and `lr.npy` (the learning rate of each step). Weights that are there
    already are kept: they are the same for every batch.
    """
    recipe = load_recipe(str(RECIPE), overrides)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).is_file():
        model = Llama(recipe.model)
        model.initialize(recipe.seed)
        write_weights(dict(model.named_parameters()), recipe.model, folder, torch.float32, shard_bytes=1 << 62)
        write_json(folder / CONFIG, config_of_shape(recipe.model, dtype=torch.float32, bos_id=_BOS, eos_id=_EOS))
    plan, sampler, rows = open_feed(family, recipe)
    batches = [read_step(plan, sampler, rows, step) for step in range(steps)]
    np.save(folder / "inputs.npy", np.stack([batch.inputs.numpy() for batch in batches]))
    np.save(folder / "targets.npy", np.stack([batch.targets.numpy() for batch in batches]))
    np.save(folder / "lr.npy", plan.lr[:steps])


def open_feed(family: Path, recipe: Recipe) -> tuple[Plan, Sampler, dict[str, Rows]]:
    """What `read_step` reads a step of the base from."""
    plan = compile_plan(recipe)
    rows = {name: open_corpus(family / "corpora" / name).rows("train", plan.context) for name in plan.corpora}
    return plan, Sampler(plan, recipe.seed, {name: len(part) for name, part in rows.items()}), rows


def _set(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]
