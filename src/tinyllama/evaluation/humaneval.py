"""HumanEval (Chen et al. 2021): programs that a model completes, run against their tests in a sandbox.

Prompt, stop strings and room are those of lm-eval's definition. Its metric is not used, since it runs programs
unprotected and fetches its code from a hub; pass@k is computed here by the paper's formula.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.catalogue import CODE
from tinyllama.evaluation.continuation import Continuation, continue_ids
from tinyllama.evaluation.noise import bootstrap_stderr
from tinyllama.evaluation.sandbox import runs_to_its_end, unavailable
from tinyllama.evaluation.scores import EvaluationOptions, MissingTask, TaskScore
from tinyllama.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.evaluation.task_data import Row
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_TEMPERATURE, _TOP_P = 0.8, 0.95
"""Of sampled programs: the paper's for pass@10."""


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Probability that one of k programs passes, drawn from `samples` of which `passed` do (unbiased; eq. 1)."""
    if samples - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / count for count in range(samples - passed + 1, samples + 1))


def evaluate_code(
    model: Llama, tokenizer: Tokenizer, rows: Sequence[Row], options: EvaluationOptions
) -> tuple[TaskScore | MissingTask, list[Answer]]:
    """Complete and run every program.

    With one sample it is decoded greedily, as lm-eval does. With more they are sampled; from ten on, pass@10 is
    recorded with each question.
    """
    if not options.run_code:
        return MissingTask("humaneval runs programs that the model writes; allow that with --run-code"), []
    if reason := unavailable():
        return MissingTask(reason), []
    settings, version = _definition(options.samples)
    chosen = rows[: options.limit]
    answers, cut = [], 0
    for number, row in enumerate(chosen):
        ids = [tokenizer.bos_id] * options.bos + tokenizer.encode([row["prompt"]])[0]
        cut += len(ids) > settings.prompt_room(model.shape.context)
        programs = _complete(model, tokenizer, row["prompt"], settings, options, seed=number)
        passed = [
            runs_to_its_end(f"{row['prompt']}{text}\n{row['test']}\ncheck({row['entry_point']})\n") for text in programs
        ]
        rates = {f"pass@{k}": pass_at_k(len(passed), sum(passed), k) for k in (1, 10) if k <= len(passed)}
        answers.append(Answer(CODE, row["task_id"], list(programs), rates, passed=passed))
        options.progress(CODE, number + 1, len(chosen))
    values = [answer.scores["pass@1"] for answer in answers]
    error = bootstrap_stderr(values)
    return TaskScore("pass@1", sum(values) / len(values), error, len(values), error, version, cut=cut), answers


def _complete(  # noqa: PLR0913, PLR0917  # what a completion depends on
    model: Llama, tokenizer: Tokenizer, prompt: str, settings: Continuation, options: EvaluationOptions, seed: int
) -> list[str]:
    key = sha256_json([CODE, prompt, settings, options.samples, seed])
    known: list[str] | None = options.journal.get(key) if options.journal else None
    if known is not None:
        return known
    ids = [tokenizer.bos_id] * options.bos + tokenizer.encode([prompt])[0]
    texts = continue_ids(model, tokenizer, ids, settings, samples=options.samples, seed=seed)
    if options.journal:
        options.journal.put({key: texts})
    return texts


def _definition(samples: int) -> tuple[Continuation, str]:
    """Stop strings, room and version from lm-eval's definition, read without running the code beside it."""
    from lm_eval import tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(tasks.__file__).parent / CODE / f"{CODE}.yaml"
    definition = load_yaml(path, resolve_func=False)
    asked = definition["generation_kwargs"]
    temperature, top_p = (_TEMPERATURE, _TOP_P) if samples > 1 else (0.0, 1.0)
    continuation = Continuation(tuple(asked["until"]), int(asked["max_gen_toks"]), temperature, top_p)
    return continuation, str(definition["metadata"]["version"])
