"""Tasks that lm-eval alone defines: any of its tasks and groups by name, and those of a user's own YAML files.

Rows come from the hub through `tinyllama.evaluation.hub_sets`, at the revision and with the hashes of the lock file.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

import datasets  # type: ignore[import-untyped]  # ships no types
import pyarrow as pa
import pyarrow.parquet as pq
from lm_eval.api.metrics import mean_stderr
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.catalogue import CATALOGUE
from tinyllama.evaluation.harness import FEW_SHOT_SEED, LmEvalDict, quiet
from tinyllama.evaluation.hub_sets import HubSets, UnavailableError
from tinyllama.evaluation.language_model import LlamaLM
from tinyllama.evaluation.lm_eval_index import definitions, lm_eval_folder
from tinyllama.evaluation.noise import bootstrap_stderr
from tinyllama.evaluation.scores import MissingTask, TaskScore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lm_eval.api.task import Task

    from tinyllama.evaluation.answers import Response
    from tinyllama.evaluation.scores import EvaluationOptions
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_PREFERRED = ("acc_norm", "acc", "exact_match", "f1", "bits_per_byte")
"""Metrics that count, the first that a task has; else its own first."""
_OF_TEXTS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Metrics that lm-eval computes from the sum of log-likelihoods and weights."""
_HUB = "hf://datasets/"


class NamedTask:
    """A task, or a group with a score of its own, as lm-eval loads it: its members are scored and averaged."""

    def __init__(self, name: str, loaded: LmEvalDict, shots: int | None) -> None:
        self.name = name
        self.loaded = loaded
        self.members: Mapping[str, Task] = loaded["tasks"]
        for task in self.members.values():
            stated = task.get_config("num_fewshot")
            if stated is None or (shots is not None and stated != 0):  # 0 is stated for a reason; so in lm-eval
                task.set_config(key="num_fewshot", value=shots or 0)
            task.set_fewshot_seed(FEW_SHOT_SEED)

    @property
    def scored(self) -> str:
        """What lm-eval calls the thing that has the score: the only member, or the group."""
        return next(iter(self.members)) if len(self.members) == 1 else self.name

    @property
    def obstacle(self) -> MissingTask | None:
        """Why it cannot be asked here."""
        for task in self.members.values():
            settings = task.get_config("generation_kwargs") or {}
            if getattr(task, "UNSAFE_CODE", False):
                return MissingTask("it runs programs that the model writes, without a sandbox; humaneval has one")
            if getattr(task, "MULTIMODAL", False):
                return MissingTask("it shows pictures or sound, which the model cannot read")
            if settings.get("do_sample") and settings.get("temperature"):
                return MissingTask("it samples its answers, and all are greedy here")
        return None

    def texts(self) -> list[str]:
        """Each question as a text that contained it would spell it, with its right answer."""
        return [_spelled(task, row) for task in self.members.values() for row in task.eval_docs]


def _spelled(task: Task, row: LmEvalDict) -> str:
    """A prompt and its answer; either may be the number of an option."""
    options = task.doc_to_choice(row) if task.get_config("doc_to_choice") is not None else []
    parts = [part[0] if isinstance(part, list) else part for part in (task.doc_to_text(row), task.doc_to_target(row))]
    return " ".join(str(options[part]) if isinstance(part, int) and options else str(part) for part in parts)


def load_tasks(
    names: Sequence[str], include_path: Path | None = None, shots: int | None = None, hub: HubSets | None = None
) -> dict[str, NamedTask | MissingTask]:
    """Name → the task with its rows, or why it cannot be asked; a group without a score stands for its members.

    Args:
        names: of tasks, groups and tags; ours too.
        include_path: folder of a user's own definitions.
        shots: examples before each question; None takes as many as the definition states.
        hub: fetches, and remembers that the hub was silent.

    Raises:
        EvaluationError: a definition cannot be loaded.
    """
    hub, found = hub or HubSets(), dict[str, NamedTask | MissingTask]()
    for name in ((CATALOGUE[name].group or name) if name in CATALOGUE else name for name in names):
        try:
            with quiet(), _rows_from(hub):
                loaded = _load(name, include_path)
        except (UnavailableError, ImportError) as error:
            found[name] = MissingTask(f"lm-eval's data or a package it needs is unavailable: {error}")
            continue
        except EvaluationError:  # a file that differs from the lock file
            raise
        except Exception as error:  # a definition is a program, and may be the user's own
            raise EvaluationError(f"{name}: lm-eval cannot load this task ({type(error).__name__}: {error})") from error
        group = loaded.get("groups", {}).get(name)
        whole = len(loaded["tasks"]) == 1 or (group is not None and group.aggregate_metric_list)
        parts = (
            {name: loaded}
            if whole
            else {member: {"tasks": {member: loaded["tasks"][member]}} for member in loaded["tasks"]}
        )
        for part, tasks in parts.items():
            task = NamedTask(part, tasks, shots)
            found[part] = task.obstacle or task
    return found


def _load(name: str, include_path: Path | None) -> LmEvalDict:
    """lm-eval's tasks of a name, from the folders that name it, or by its whole index if those refer to others."""
    own, theirs = [include_path] if include_path else [], lm_eval_folder()
    folders = definitions(theirs).get(name, ()) if theirs else ()
    try:
        loaded: LmEvalDict = TaskManager(include_path=[*sorted(folders), *own], include_defaults=False).load(name)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):  # of a definition that is not there
        loaded = TaskManager(include_path=own or None).load(name)
    return loaded


@contextmanager
def _rows_from(hub: HubSets) -> Iterator[None]:
    """Give lm-eval's tasks, which call `datasets.load_dataset` themselves, rows from the hub by the lock file."""
    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **settings: object) -> LmEvalDict:
        files = settings.get("data_files")
        if files is not None:
            settings["data_files"] = _local(hub, files)
        if files is not None or Path(path).exists():
            rows: LmEvalDict = original(path, name, **settings)
        else:
            tables = {split: _table(paths) for split, paths in hub.fetch(path, name).items()}
            rows = datasets.DatasetDict({split: datasets.Dataset(table) for split, table in tables.items()})
        return rows

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = original


def _local(hub: HubSets, files: object) -> object:
    """A definition's files, with those of the hub replaced by local copies."""
    if isinstance(files, dict):
        return {split: _local(hub, item) for split, item in files.items()}
    if isinstance(files, list):
        return [_local(hub, item) for item in files]
    if not str(files).startswith(_HUB):
        return files
    owner, name, file = str(files).removeprefix(_HUB).split("/", 2)
    return str(hub.fetch(f"{owner}/{name}", file)[file][0])


def _table(paths: Sequence[Path]) -> datasets.table.Table:
    return datasets.table.InMemoryTable(pa.concat_tables(map(pq.read_table, paths)))


def run_loaded(
    model: Llama, tokenizer: Tokenizer, task: NamedTask, options: EvaluationOptions
) -> tuple[TaskScore, list[Answer]]:
    """Ask a model, as `run_task` does."""
    language_model = LlamaLM(
        model, tokenizer, bos=options.bos, rows=options.rows, journal=options.journal,
        progress=lambda done, of: options.progress(task.name, done, of),
    )  # fmt: skip
    with quiet():
        outcome = evaluate(language_model, task.loaded, limit=options.limit, log_samples=True, bootstrap_iters=0)
    metric, chosen = _what_counts(task, outcome)
    answers, cut = [], 0
    for member, definition in task.members.items():
        samples = [sample for sample in outcome["samples"][member] if sample["filter"] == chosen]
        for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
            cut += any(language_model.was_cut(*request[:2]) for request in sample["arguments"] if len(request) > 1)
            answers.append(
                Answer(
                    task=task.name,
                    question=sample["doc_id"] if member == task.name else f"{member}/{sample['doc_id']}",
                    responses=[_response(response[0]) for response in sample["resps"]],
                    scores={metric: _of_question(definition, metric, sample[metric])},
                    requests=[list(arguments)[:2] for arguments in sample["arguments"]],
                    target=sample["target"],
                    row_sha256=sample["doc_hash"],
                )
            )
    return _score(task, outcome, (metric, chosen), answers, cut), answers


def _what_counts(task: NamedTask, outcome: LmEvalDict) -> tuple[str, str]:
    """The metric that counts, and the filter that precedes it: by lm-eval's names."""
    result = outcome["results"][task.scored]
    keys = [key.partition(",")[::2] for key in result if "," in key and "_stderr" not in key]
    names = [name for name, _ in keys]
    metric = next((name for name in _PREFERRED if name in names), names[0])
    return metric, keys[names.index(metric)][1]


def _of_question(task: Task, metric: str, value: object) -> float:
    """A metric of one question: of a text by its own weight, of a class (right answer, ours) whether it is right."""
    match value:
        case SupportsFloat():
            return float(value)
        case (right, ours) if metric not in _OF_TEXTS:
            return float(right == ours)
        case _:
            return float(task.aggregation()[metric]([value]))


def _response(answer: object) -> Response:
    """An answer as records hold it; a whole text's log-likelihood has no greedy choice."""
    match answer:
        case (float(total), bool(greedy)):
            return total, greedy
        case str():
            return answer
        case _:
            return float(str(answer)), False


def _score(
    task: NamedTask, outcome: LmEvalDict, counts: tuple[str, str], answers: Sequence[Answer], cut: int
) -> TaskScore:
    """lm-eval's score: of a group its own aggregate. A score that is no mean over questions has no error."""
    metric, chosen = counts
    first = next(iter(task.members))
    score = float(outcome["results"][task.scored][f"{metric},{chosen}"])
    values = [answer.scores[metric] for answer in answers]
    is_mean = abs(sum(values) / len(values) - score) < 1e-9
    return TaskScore(
        metric=metric,
        score=score,
        stderr=mean_stderr(values) if is_mean and len(values) > 1 else None,
        questions=len(answers),
        bootstrap_stderr=bootstrap_stderr(values) if is_mean else None,
        version=str(outcome["versions"][first]),
        shots=int(outcome["n-shot"][first]),
        cut=cut,
        higher_is_better=bool(outcome["higher_is_better"][first][metric]),
    )
