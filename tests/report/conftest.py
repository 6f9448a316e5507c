"""A family's folder as training and evaluation leave it, with invented numbers and the plan's real counts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from tinyllama.evaluation.published import TASKS
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BITS = {
    "base": {"prose": 1.396, "code": 4.72, "arithmetic": 5.94, "chinese": 7.78},
    "v1.1": {"prose": 1.342, "code": 4.86, "arithmetic": 5.96, "chinese": 8.22},
    "math_code": {"prose": 1.361, "code": 2.12, "arithmetic": 1.96, "chinese": 7.60},
    "chinese": {"prose": 1.372, "code": 3.36, "arithmetic": 4.52, "chinese": 2.66},
}
NASTY = "<script>alert('&amp;')</script>"


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("nano", ["evaluation.tasks=[commonsense]"])


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> Path:
    return write_family(tmp_path / "run", recipe, BITS)


def write_family(folder: Path, recipe: Recipe, bits: dict[str, dict[str, float]]) -> Path:
    models = recipe.models
    for model in models:
        lines = [json.dumps(record) for record in metrics(recipe, model)]
        write(folder / model / "metrics.jsonl", "\n".join(lines) + "\n")
    write(folder / "summary.json", json.dumps(summary(recipe, bits)))
    samples = {
        prompt: {model: f" as {model} continues it:\n    {NASTY} 人工智能 and on and on" for model in models}
        for prompt in [*recipe.evaluation.prompts, NASTY]
    }
    write(folder / "evaluation" / "samples.json", json.dumps({"inputs": "x", "samples": samples}))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def metrics(recipe: Recipe, model: str) -> Iterator[dict[str, Any]]:
    """Falling losses over the plan's own steps."""
    plan = compile_plan(recipe, None if model == "base" else model)
    first = 0 if model == "base" else plan.fork_step
    horizon = recipe.stages[-1].until
    for step in range(first, plan.steps):
        tokens = int(plan.before[step] + plan.batch[step]) * plan.context
        taught = 0 if model == "base" else 1 - math.exp(-20 * (tokens / horizon - 0.5))
        noise = 0.12 * math.sin(step * 1.7) + 0.08 * math.sin(step * 0.61)
        loss = 3.4 + 6.5 * math.exp(-6 * tokens / horizon) + noise - 0.5 * taught * len(plan.corpora)
        yield {
            "kind": "step",
            "step": step + 1,
            "stage": plan.stages[int(plan.stage[step])],
            "tokens": tokens,
            "loss": loss,
            "lr": float(plan.lr[step]),
            "grad_norm": 0.9,
            "batch": int(plan.batch[step]),
            "counts": dict(zip(plan.corpora, map(int, plan.counts[step]), strict=True)),
            "seconds": 0.4,
            "checkpoint_seconds": 0.0,
            "tokens_per_second": 9000.0,
            "mfu": 0.6,
        }
        if step % 6 == 5:
            share = recipe.own_shares(model)[0][1]
            losses = {
                name: 3.5 + index + (6 - index) * math.exp(-6 * tokens / horizon)
                - taught * (2.5 if share.get(name) else -0.15 * len(plan.corpora))
                for index, name in enumerate(recipe.corpora)
            }  # fmt: skip
            yield {"kind": "held_out", "step": step + 1, "tokens": tokens, "losses": losses}


def summary(recipe: Recipe, bits: dict[str, dict[str, float]]) -> dict[str, Any]:
    models = recipe.models
    ends = dict.fromkeys(recipe.variants, recipe.stages[-1].until)
    ends |= {name: branch.stages[-1].until for name, branch in recipe.branches.items()}
    ends["base"] = recipe.stages[recipe.fork_index - 1].until
    tasks: dict[str, dict[str, Any]] = {}
    for index, model in enumerate(models):
        tasks[model] = {
            task.name: {"metric": task.metric, "score": 0.25 + index / 64, "stderr": 0.055, "questions": 64}
            for task in TASKS
        } | {"average": 0.25 + index / 64}
    tasks["chinese"] |= {
        "boolq": {"reason": f"data/eval/boolq_validation.jsonl is not there {NASTY}"},
        "average": None,
    }
    return {
        "recipe": recipe.name,
        "description": recipe.description,
        "models": models,
        "corpora": list(recipe.corpora),
        "bits_per_byte": bits,
        "tasks": tasks,
        "tokens": {model: ends[model] for model in models},
        "seconds": {"tokenizer": 4.2, "corpora": 31.0, "train base": 252.0, "train variants": 410.5, "evaluate": 61.0},
        "exports": {model: f"exports/{model}" for model in models},
        "parameters": recipe.model.parameters,
        "versions": {"tinyllama": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0", "python": "3.11.2"},
        "machine": {"cpu": "Example CPU @ 2.5 GHz", "cores": 2, "memory_gib": 23.4, "platform": "Linux x86_64"},
    }
