"""Our evaluation against `lm_eval --model hf`: the same answers, and how fast.

    python benchmarks/evaluate.py [--folder NAME FOLDER LEAST ...] [--data DATA] [--limit 64] [--batches 1 4 16 64]

FOLDER is a Hugging Face folder of a Llama, NAME what the page calls it, and LEAST how many times as fast as lm-eval we
shall be; without one, the demo's model is measured, if it was made. DATA holds the tasks' rows.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from runner import Claim, Result, Table, calls_in_turns, publish, standard_arguments

from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.formats.open import open_model
from tinyllama.inference.packing import pack
from tinyllama.model.torch_internals import multiplies_in_bf16

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

OURS, ROUNDED, THEIRS = "tinyllama", "tinyllama, bf16", "lm_eval, batch "
DEMO = ("mini", "runs/mini/exports/v1.1", "6")
"""What is measured by default, and how many times as fast as lm-eval we shall be on it."""
MOST_OTHERS_IN_BF16 = 0.05
"""Share of the questions that bf16 may answer otherwise than fp32."""
Scores = list[tuple[float, bool]]
Ask = tuple[str, "int | str", str, str]
"""Task, question, context and continuation of a request."""


TEXT = """Our engine and lm-eval's score all requests of the seven commonsense tasks in one process, in fp32, in turns;
ours also in bf16 where the processor multiplies in it. Times are medians of wall-clock and of processor seconds; other
work on the machine disturbs the latter less. lm-eval runs once at each batch size, and its two fastest take part in
the other rounds. Speedups refer to its best batch size, by the same clock; the requirement is for the smaller of both.
Answers are compared with lm-eval's in fp32: which option of each question is likeliest, plain and by its length."""


class Measured(NamedTuple):
    """Both engines on one model."""

    name: str
    least: float
    requests: int
    seconds: dict[str, tuple[float, float]]
    """Engine → medians of wall-clock and processor seconds."""
    agreement: dict[str, dict[str, float]]
    """Engine of ours → how its answers differ from lm-eval's."""

    def speedup(self, engine: str, clock: int) -> float:
        """How many times as fast as lm-eval at its best batch size an engine is, by wall-clock or processor seconds."""
        best = min(both[clock] for name, both in self.seconds.items() if name.startswith(THEIRS))
        return best / self.seconds[engine][clock]

    def table(self, threads: int) -> Table:
        """Times and speedups of all engines, and the agreement of ours."""
        what = f"{self.name}: {self.requests} requests, {threads} threads"
        columns = [what, "wall, s", "processor, s", "speedup, wall", "speedup, processor", "other answers"]
        rows = []
        for engine, (wall, processor) in self.seconds.items():
            found = self.agreement.get(engine)
            others = f"{found['other_choices']:g} of {found['questions']:g}" if found else ""
            speedups = [f"{self.speedup(engine, clock):.2f}" for clock in (0, 1)]
            rows.append([engine, f"{wall:.2f}", f"{processor:.2f}", *speedups, others])
        return Table(columns, rows)

    def claims(self) -> list[Claim]:
        """What is required of speed and answers."""
        slower = min(self.speedup(OURS, clock) for clock in (0, 1))
        claims = [
            Claim(f"{self.name}: as fast as lm_eval at its best batch size, times", slower, least=self.least),
            Claim(f"{self.name}: questions answered otherwise", self.agreement[OURS]["other_choices"], most=0),
        ]
        if found := self.agreement.get(ROUNDED):
            share = found["other_choices"] / found["questions"]
            text = f"{self.name}: share of the questions answered otherwise in bf16"
            claims.append(Claim(text, share, most=MOST_OTHERS_IN_BF16))
        return claims


def main() -> None:
    """Measure both on every model, and compare their answers."""
    asked = _arguments()
    folders = [(name, Path(folder), float(least)) for name, folder, least in asked.folder or [DEMO]]
    if absent := [path for path in (asked.data, *(folder for _, folder, _ in folders)) if not path.is_dir()]:
        sys.stderr.write(f"skipped: there is no {absent[0]} (make demo makes the model, docs/evaluation.md the data)\n")
        return
    torch.set_num_threads(asked.threads)
    found = [_measured(name, folder, least, asked) for name, folder, least in folders]
    tables = [measured.table(asked.threads) for measured in found]
    claims = [claim for measured in found for claim in measured.claims()]
    facts = {"rows_of_a_task": asked.limit, "models": {measured.name: measured._asdict() for measured in found}}
    publish(Result("evaluate", "Evaluation", TEXT, tables, claims, facts=facts), asked.out)


def _arguments() -> argparse.Namespace:
    parser = standard_arguments("Compare with lm_eval --model hf.")
    parser.add_argument(
        "--folder",
        nargs=3,
        action="append",
        metavar=("NAME", "FOLDER", "LEAST"),
        help=f"a model and how many times as fast as lm_eval we shall be; repeatable (default: {' '.join(DEMO)})",
    )
    parser.add_argument("--data", type=Path, default=Path("data/eval"))
    parser.add_argument("--limit", type=int, default=64, help="questions of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64], help="lm_eval's batch sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    if asked.quick:
        asked.limit, asked.rounds, asked.batches = 1, 1, [1]
    return asked


def _measured(name: str, folder: Path, least: float, asked: argparse.Namespace) -> Measured:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from tinyllama.evaluation.language_model import LlamaLM  # imports lm_eval

    source = open_model(folder)
    model, tokenizer, bos = source.load(), source.tokenizer(), source.adds_bos
    pack(model)  # as evaluate does
    options = EvaluationOptions(limit=asked.limit, bos=bos)
    answers = evaluate_tasks(model, tokenizer, ["commonsense"], asked.data, options).answers
    asks = [
        (task, answer.question, str(context), str(end))
        for task in answers
        for answer in answers[task]
        for context, end in answer.requests
    ]
    requests = [Instance("loglikelihood", {}, (context, end), 0) for _, _, context, end in asks]
    ours: dict[str, Callable[[], Scores]] = {
        OURS: partial(LlamaLM(model, tokenizer, bos=bos).loglikelihood, requests),
    }
    if multiplies_in_bf16():
        rounded = source.load(torch.bfloat16)
        pack(rounded)
        ours[ROUNDED] = partial(LlamaLM(rounded, tokenizer, bos=bos).loglikelihood, requests)
    lm_eval = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    theirs = {f"{THEIRS}{size}": partial(_theirs, lm_eval, requests, size) for size in asked.batches}
    sys.stderr.write(f"{name}: {len(requests)} requests\n")
    seconds, scores = calls_in_turns(ours | theirs, 1)
    fastest = sorted(theirs, key=lambda engine: seconds[engine][0][1])[:2]
    others, _ = calls_in_turns(ours | {engine: theirs[engine] for engine in fastest}, asked.rounds - 1)
    medians = {}
    for engine, first in seconds.items():
        wall, processor = zip(*first, *others.get(engine, []), strict=True)
        medians[engine] = (statistics.median(wall), statistics.median(processor))
    agreement = {engine: _compare(asks, scores[engine], scores[fastest[0]]) for engine in ours}
    return Measured(name, least, len(requests), medians, agreement)


def _theirs(language_model: HFLM, requests: list[Instance], size: int) -> Scores:
    language_model.batch_size_per_gpu = size
    found: Scores = language_model.loglikelihood(requests, disable_tqdm=True)
    return found


def _compare(asks: Sequence[Ask], ours: Scores, theirs: Scores) -> dict[str, float]:
    """How far the log-likelihoods are apart, and the questions on which another option would be chosen."""
    options: dict[tuple[str, int | str], list[int]] = defaultdict(list)
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
