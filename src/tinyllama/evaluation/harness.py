"""A task run by lm-eval's own code: its definition, over our rows, answered by our model."""

from __future__ import annotations

import logging
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset  # type: ignore[import-untyped]  # ships no types; comes with lm-eval
from lm_eval import tasks as definitions
from lm_eval.api.metrics import (
    aggregate_subtask_metrics,
    pooled_sample_stderr,
)
from lm_eval.evaluator import evaluate
from lm_eval.tasks._yaml_loader import load_yaml

from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.catalogue import CATALOGUE
from tinyllama.evaluation.language_model import LlamaLM
from tinyllama.evaluation.noise import bootstrap_stderr
from tinyllama.evaluation.scores import TaskScore
from tinyllama.evaluation.task_data import TASK_DATA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tinyllama.evaluation.scores import EvaluationOptions, Splits
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

FEW_SHOT_SEED = 1234
"""The seed of lm-eval's own command."""
LmEvalDict = dict[str, Any]  # lm-eval has no types for its definitions, outcomes and samples
_ROOT = Path(definitions.__file__).parent


def subjects_of(name: str) -> list[str]:
    """The subjects a task is made of by lm-eval's definition of its group; one without a name, for most tasks."""
    task = CATALOGUE[name]
    if task.group is None:
        return [""]
    members = load_yaml(_ROOT / task.folder / f"_{task.group}.yaml")["task"]
    return [member.removeprefix(f"{task.group}_") for member in members]


def run_task(
    model: Llama, tokenizer: Tokenizer, name: str, rows: Mapping[str, Splits], options: EvaluationOptions
) -> tuple[TaskScore, list[Answer]]:
    """Hand our rows and our model to lm-eval, for one task.

    Args:
        model: scored on the device its weights are on.
        tokenizer: its own.
        name: of the task.
        rows: subject → split → rows, as `subjects_of` names them.
        options: how to ask.

    Returns:
        The score, and what was asked and answered, question by question.
    """
    language_model = LlamaLM(
        model, tokenizer, bos=options.bos, rows=options.rows, journal=options.journal,
        progress=lambda done, of: options.progress(name, done, of),
    )  # fmt: skip
    members = {_member(name, subject): splits for subject, splits in rows.items()}
    with quiet():
        manager = definitions.TaskManager(include_path=[_ROOT / CATALOGUE[name].folder], include_defaults=False)
        loaded = manager.load(_definition(name, members))
        for task in loaded["tasks"].values():
            task.set_fewshot_seed(FEW_SHOT_SEED)
        outcome = evaluate(language_model, {"tasks": loaded["tasks"]}, limit=options.limit, log_samples=True)
    samples = [(member, sample) for member in members for sample in _samples(name, outcome["samples"][member])]
    cut = sum(any(language_model.was_cut(*request[:2]) for request in sample["arguments"]) for _, sample in samples)
    return _score(name, outcome, members, samples, cut), [_answer(name, member, sample) for member, sample in samples]


def _member(name: str, subject: str) -> str:
    """lm-eval's name of a task, or of one subject of it."""
    return f"{CATALOGUE[name].group}_{subject}" if subject else name


def _definition(name: str, members: Mapping[str, Splits]) -> LmEvalDict:
    """lm-eval's definitions of a task's subjects over our rows.

    Splits that are missing are removed from the definitions, so that lm-eval does not look for examples in them.
    """

    def changed(member: str, splits: Splits) -> LmEvalDict:
        def dataset(**_: object) -> LmEvalDict:
            return {split: Dataset.from_list(rows) for split, rows in splits.items()}

        given = {"num_fewshot": CATALOGUE[name].shots, "custom_dataset": dataset}
        absent = {} if "train" in splits else {"training_split": None, "fewshot_split": None}
        if TASK_DATA[name].split == "test":
            absent["validation_split"] = None
        return {"task": member} | given | absent

    return {"group": f"all of {name}", "task": [changed(*member) for member in members.items()]}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval's progress bars, and its advice on task definitions that are its own."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _samples(name: str, samples: Sequence[LmEvalDict]) -> list[LmEvalDict]:
    """lm-eval's record of each question, under the filter that counts, in the order of the file."""
    wanted = CATALOGUE[name].filter
    return sorted((sample for sample in samples if sample["filter"] == wanted), key=lambda sample: sample["doc_id"])


def _score(
    name: str, outcome: LmEvalDict, members: Mapping[str, Splits], samples: Sequence[tuple[str, LmEvalDict]], cut: int
) -> TaskScore:
    """lm-eval's score; of several subjects its mean over all questions, with the error that it pools for that.

    Args:
        name: of the task.
        outcome: what lm-eval computed.
        members: the task's subjects.
        samples: (subject, lm-eval's record) of each question.
        cut: questions whose prompts were cut.
    """
    task, one = CATALOGUE[name], samples[0][0]
    results = [outcome["results"][member] for member in members]
    scores = [result[f"{task.metric},{task.filter}"] for result in results]
    errors = [result[f"{task.metric}_stderr,{task.filter}"] for result in results]
    known = all(isinstance(error, float) for error in errors)  # "N/A" for one question
    sizes = [outcome["n-samples"][member]["effective"] for member in members]
    several = len(results) > 1
    stderr = (pooled_sample_stderr(errors, sizes) if several else errors[0]) if known else None
    return TaskScore(
        metric=task.metric,
        score=float(aggregate_subtask_metrics(scores, sizes) if several else scores[0]),
        stderr=None if stderr is None else float(stderr),
        questions=len(samples),
        bootstrap_stderr=bootstrap_stderr([float(sample[task.metric]) for _, sample in samples]),
        version=str(outcome["versions"][one]),
        shots=int(outcome["n-shot"][one]),
        cut=cut,
    )


def _answer(name: str, member: str, sample: LmEvalDict) -> Answer:
    """What was asked, the model's answers (log-likelihoods or text), and the metric."""
    metric = CATALOGUE[name].metric
    return Answer(
        task=name,
        question=sample["doc_id"] if member == name else f"{member}/{sample['doc_id']}",
        responses=[response for response, *_ in sample["resps"]],
        scores={metric: float(sample[metric])},
        requests=[list(arguments)[:2] for arguments in sample["arguments"]],
        target=sample["target"],
        row_sha256=sample["doc_hash"],
    )
