"""Our evaluation against `lm_eval --model hf`: the same answers, and how fast.

    python benchmarks/evaluate.py FOLDER DATA [--limit 64] [--rounds 3] [--batches 1 4 16] [--threads 2]

FOLDER is a Hugging Face folder of a Llama, DATA holds the tasks' rows. All requests of the seven tasks are scored by
both in one process, in fp32, in turns; the figures are medians of wall-clock and of processor seconds, which other
work on the machine disturbs less. lm-eval is run at each batch size, and its best one counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from tinyllama.cli.models import find_model
from tinyllama.evaluate.language_model import LlamaLM
from tinyllama.evaluate.tasks import Options, evaluate_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

Scores = list[tuple[float, bool]]


def main() -> None:
    """Measure and print JSON."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    source = find_model(asked.folder)
    model, tokenizer, bos = source.load(), source.tokenizer(), source.facts()["bos"]
    answers = evaluate_tasks(model, tokenizer, ["commonsense"], asked.data, Options(limit=asked.limit, bos=bos)).answers
    asks = [
        (task, answer["question"], *ask) for task in answers for answer in answers[task] for ask in answer["requests"]
    ]
    requests = [Instance("loglikelihood", {}, (context, end), 0) for _, _, context, end in asks]
    ours = LlamaLM(model, tokenizer, bos=bos)
    theirs = HFLM(pretrained=str(asked.folder), device="cpu", dtype="float32", batch_size=1)
    runs: dict[str, Callable[[], Scores]] = {"tinyllama": lambda: ours.loglikelihood(requests)}
    for size in asked.batches:
        runs[f"lm_eval batch {size}"] = lambda size=size: _theirs(theirs, requests, size)
    seconds, scores = _in_turns(runs, asked.rounds)
    medians = {name: tuple(map(statistics.median, zip(*taken, strict=True))) for name, taken in seconds.items()}
    best = min((name for name in medians if name != "tinyllama"), key=lambda name: medians[name][1])
    facts = {
        "requests": len(requests),
        "threads": asked.threads,
        "median_seconds": {name: {"wall": wall, "processor": cpu} for name, (wall, cpu) in medians.items()},
        "best": best,
        "times_as_fast": {
            "wall": medians[best][0] / medians["tinyllama"][0],
            "processor": medians[best][1] / medians["tinyllama"][1],
        },
    }
    print(json.dumps(facts | _compare(asks, scores["tinyllama"], scores[best]), indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare with lm_eval --model hf.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def _theirs(language_model: HFLM, requests: list[Instance], size: int) -> Scores:
    language_model.batch_size_per_gpu = size
    found: Scores = language_model.loglikelihood(requests, disable_tqdm=True)
    return found


def _in_turns(
    runs: dict[str, Callable[[], Scores]], rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, Scores]]:
    """(wall, processor) seconds of every run in every round, and each one's last scores."""
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    scores: dict[str, Scores] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            scores[name] = run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds, scores


def _compare(asks: list[tuple[Any, ...]], ours: Scores, theirs: Scores) -> dict[str, Any]:
    """How far the log-likelihoods are apart, and the questions on which another option would be chosen."""
    options: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, (task, question, *_) in enumerate(asks):
        options[task, question].append(index)

    def choices(scores: Scores, members: list[int]) -> tuple[int, int]:
        plain = [scores[i][0] for i in members]
        normed = [scores[i][0] / max(1, len(asks[i][3].strip())) for i in members]
        return plain.index(max(plain)), normed.index(max(normed))

    return {
        "questions": len(options),
        "other_choices": sum(choices(ours, members) != choices(theirs, members) for members in options.values()),
        "other_greedy": sum(one[1] != other[1] for one, other in zip(ours, theirs, strict=True)),
        "largest_difference": max(abs(one[0] - other[0]) for one, other in zip(ours, theirs, strict=True)),
    }


if __name__ == "__main__":
    main()
