"""Our evaluation against `lm_eval --model hf`: the same answers, and how fast.

    python benchmarks/evaluate.py [--folder FOLDER] [--data DATA] [--limit 64] [--rounds 3] [--batches 1 4 16]

FOLDER is a Hugging Face folder of a Llama (the demo's, if it was made), DATA holds the tasks' rows.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from runner import Result, Table, calls_in_turns, publish, standard_arguments

from tinyllama.evaluation.language_model import LlamaLM
from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.formats.open import open_model
from tinyllama.inference.packing import pack
from tinyllama.model.torch_internals import multiplies_in_bf16

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

OURS, ROUNDED = "tinyllama", "tinyllama, bf16"
Scores = list[tuple[float, bool]]


TEXT = """Our engine and lm-eval's score all requests of the seven commonsense tasks in one process, in fp32, in turns;
ours also in bf16 where the processor multiplies in it. Times are medians of wall-clock and of processor seconds; other
work on the machine disturbs the latter less. lm-eval runs at each batch size, and speedups refer to its best one, by
processor seconds."""


def main() -> None:
    """Measure both, and compare their answers."""
    asked = _arguments()
    if not asked.folder.is_dir() or not asked.data.is_dir():
        sys.stderr.write(f"skipped: {asked.folder} (make demo) and {asked.data} (docs/evaluation.md) are needed\n")
        return
    torch.set_num_threads(asked.threads)
    source = open_model(asked.folder)
    model, tokenizer, bos = source.load(), source.tokenizer(), source.adds_bos
    pack(model)  # as evaluate does
    answers = evaluate_tasks(
        model, tokenizer, ["commonsense"], asked.data, EvaluationOptions(limit=asked.limit, bos=bos)
    ).answers
    asks = [(task, answer.question, *ask) for task in answers for answer in answers[task] for ask in answer.requests]
    requests = [Instance("loglikelihood", {}, (context, end), 0) for _, _, context, end in asks]
    ours = LlamaLM(model, tokenizer, bos=bos)
    theirs = HFLM(pretrained=str(asked.folder), device="cpu", dtype="float32", batch_size=1)
    runs: dict[str, Callable[[], Scores]] = {OURS: lambda: ours.loglikelihood(requests)}
    if multiplies_in_bf16():
        rounded = source.load(torch.bfloat16)
        pack(rounded)
        runs[ROUNDED] = partial(LlamaLM(rounded, tokenizer, bos=bos).loglikelihood, requests)
    for size in asked.batches:
        runs[f"lm_eval, batch {size}"] = partial(_theirs, theirs, requests, size)
    seconds, scores = calls_in_turns(runs, asked.rounds)
    medians = {name: tuple(map(statistics.median, zip(*taken, strict=True))) for name, taken in seconds.items()}
    best = min((name for name in medians if name not in {OURS, ROUNDED}), key=lambda name: medians[name][1])
    compared = _compare(asks, scores[OURS], scores[best])
    in_bf16 = _compare(asks, scores[ROUNDED], scores[best]) if ROUNDED in scores else None
    best_wall, best_cpu = medians[best]
    rows = [
        [name, f"{wall:.2f}", f"{cpu:.2f}", f"{best_wall / wall:.2f}", f"{best_cpu / cpu:.2f}"]
        for name, (wall, cpu) in medians.items()
    ]
    what = f"{len(requests)} requests, {asked.threads} threads"
    columns = [what, "wall, s", "processor, s", "speedup, wall", "speedup, processor"]
    text = f"{TEXT} Of {compared['questions']} questions, {compared['other_choices']} are answered otherwise"
    text += "." if in_bf16 is None else f", in bf16 {in_bf16['other_choices']}."
    facts = {"seconds": seconds, "best": best, "requests": len(requests), "bf16": in_bf16} | compared
    publish(Result("evaluate", "Evaluation", text, [Table(columns, rows)], facts=facts), asked.out)


def _arguments() -> argparse.Namespace:
    parser = standard_arguments("Compare with lm_eval --model hf.")
    parser.add_argument("--folder", type=Path, default=Path("runs/mini/exports/v1.1"))
    parser.add_argument("--data", type=Path, default=Path("data/eval"))
    parser.add_argument("--limit", type=int, default=16, help="questions of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    if asked.quick:
        asked.limit, asked.rounds, asked.batches = 1, 1, [1]
    return asked


def _theirs(language_model: HFLM, requests: list[Instance], size: int) -> Scores:
    language_model.batch_size_per_gpu = size
    found: Scores = language_model.loglikelihood(requests, disable_tqdm=True)
    return found


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
