"""Differences of models on the tasks and texts that they share, and whether chance explains them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from math import log, log1p
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.comparison.contenders import evaluate_command, find_contenders
from tinyllama.comparison.statistics import LEVEL, PairedTest, holm, paired_test
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.agreement import choice
from tinyllama.evaluation.measures import bits_of_right
from tinyllama.report.findings import findings_against

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.comparison.contenders import Contender
    from tinyllama.evaluation.answers import Answer
    from tinyllama.files import Json

BITS, RIGHT = "bits per byte", "bits of the right answer"
SAME_BITS = 0.01
"""A change of bits per byte that is no larger than this is no difference, however sure it is: another seed gives as
much. Where the comparison holds two seeds of one recipe, their difference takes its place if it is larger."""
_AVERAGE = "average"
_SHOWN = 400
"""Most characters of a prompt or option."""
_NO_ANSWERS = "the two records hold no answers to the same questions"
BETTER, WORSE, SAME, UNTESTED = "better", "worse", "no difference", "not tested"


def change_of(before: float, after: float) -> float:
    """The change of a value as a natural logarithm: exactly the same in both directions, as log(x / y) is not."""
    return abs(log(after) - log(before))


class Change(NamedTuple):
    """A question that two models answered with different scores."""

    question: int | str
    before: float
    """Score of the first model."""
    after: float
    asked: str
    """The prompt, as far as all options share it."""
    right: str
    """What the task's definition states."""
    first: str
    """What the first model chose."""
    second: str


@dataclass(frozen=True)
class Difference:
    """Two models on one task or text."""

    subject: str
    """Task, or name of the text."""
    measure: str
    """The task's metric, or bits per byte."""
    first: str
    """The model that the others are compared with."""
    second: str
    units: int
    """Common questions, or pieces of the text."""
    before: float
    """Value of the first model, over the common questions."""
    after: float
    test: PairedTest | None
    """Of a task's scores, or of a text's bits per byte; None where a record holds no pieces."""
    corrected_p: float | None = None
    """By Holm, over all tests of the comparison."""
    changes: list[Change] = field(default_factory=list)
    same: float = 0.0
    """Largest change, as a natural logarithm of the ratio, that is no difference."""
    lower_is_better: bool = False
    in_percent: bool = True
    """Whether the values are shares."""

    @property
    def in_bits(self) -> bool:
        """Whether the values are bits per byte of a text or of the right answers."""
        return self.measure in {BITS, RIGHT}

    @property
    def verdict(self) -> str:
        """Whether the second model is better than the first."""
        if self.corrected_p is None:
            return UNTESTED
        if self.corrected_p > LEVEL or (self.in_bits and change_of(self.before, self.after) <= self.same):
            return SAME
        return BETTER if (self.after < self.before) == self.lower_is_better else WORSE


class Gap(NamedTuple):
    """A task or text on which two models are not compared."""

    subject: str
    second: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """One model against others."""

    models: list[str]
    """The first is the one that the others are compared with."""
    differences: list[Difference]
    gaps: list[Gap]
    findings: dict[str, str]
    """Model → where it needs fewer and more bits than the first, as the report says it."""
    commands: list[str]
    """What measures what the gaps lack."""

    def to_json(self) -> dict[str, Json]:
        """All figures, with the verdicts that follow from them."""
        return {
            "format": 1,
            "models": list(self.models),
            "differences": [
                asdict(item) | {"verdict": item.verdict, "changes": [change._asdict() for change in item.changes]}
                for item in self.differences
            ],
            "gaps": [gap._asdict() for gap in self.gaps],
            "findings": dict(self.findings),
            "commands": list(self.commands),
        }


def compare(models: Sequence[str | Path], *, out: str | Path = "evaluations") -> Comparison:
    """Compare models on what `evaluate` recorded of them; nothing is evaluated.

    Args:
        models: at least two models or records, or one family, see `find_contenders`; the first one is compared with
            each other one.
        out: folder of the records of single models.

    Raises:
        ModelError: a model does not exist.
        EvaluationError: a model has no record, a record cannot be read, or there is one model alone.
    """
    first, *others = find_contenders([str(model) for model in models], Path(out))
    if not others:
        raise EvaluationError(f"{first.name}: is one model alone; name another one to compare it with")
    differences, gaps = list[Difference](), list[Gap]()
    for second in others:
        for found in (*_tasks(first, second), *_texts(first, second)):
            if isinstance(found, Difference):
                differences.append(found)
            else:
                gaps.append(found)
    seeds = _seed_noise([first, *others])
    differences = [
        replace(item, same=seeds.get((item.subject, item.measure), log1p(SAME_BITS))) if item.in_bits else item
        for item in _corrected(differences)
    ]
    sure: dict[str, dict[str, float]] = defaultdict(dict)
    for item in differences:
        if item.measure == BITS and item.verdict in {BETTER, WORSE}:
            sure[item.second][item.subject] = item.after / item.before
    findings = {model: findings_against(ratios, first.name) for model, ratios in sure.items()}
    return Comparison(
        models=[first.name, *(other.name for other in others)],
        differences=differences,
        gaps=gaps,
        findings={model: text for model, text in findings.items() if text},
        commands=_commands([first, *others]),
    )


def _tasks(first: Contender, second: Contender) -> list[Difference | Gap]:
    """Each task that one of two models was scored on, and the mean of those in percent that both were."""
    found: list[Difference | Gap] = []
    compared: list[Difference] = []
    scaled: list[list[float]] = []
    for task in dict.fromkeys((*first.tasks, *second.tasks)):
        pairs = _pairs(first, second, task)
        if reason := _why_not(first, second, task) or ("" if pairs else _NO_ANSWERS):
            found.append(Gap(task, second.name, reason))
            continue
        score = first.tasks[task]
        metric = score.metric
        values = [(one.scores[metric], other.scores[metric]) for one, other in pairs]
        changes = [_change(*pair, metric) for pair, (x, y) in zip(pairs, values, strict=True) if x != y]
        difference = replace(
            _difference(first, second, (task, metric), values, changes),
            lower_is_better=not score.higher_is_better,
            in_percent=score.is_share,
        )
        found.append(difference)
        if score.is_share and score.higher_is_better:
            compared.append(difference)
            scaled.append([(y - x) / len(pairs) for x, y in values])
        bits = [(bits_of_right(one), bits_of_right(other)) for one, other in pairs]
        if known := [(x, y) for x, y in bits if x is not None and y is not None]:
            in_bits = _difference(first, second, (task, RIGHT), known)
            found.append(replace(in_bits, lower_is_better=True, in_percent=False))
    if len(compared) > 1:
        questions = sum(map(len, scaled))
        test = paired_test([value * questions / len(scaled) for task in scaled for value in task])
        before, after = fmean(item.before for item in compared), fmean(item.after for item in compared)
        found.append(
            Difference(_AVERAGE, f"of {len(compared)} tasks", first.name, second.name, questions, before, after, test)
        )
    return found


def _difference(
    first: Contender, second: Contender, what: tuple[str, str], values: Sequence[tuple[float, float]],
    changes: Sequence[Change] = (),
) -> Difference:  # fmt: skip
    """Two models' values of a subject and measure, question by question."""
    test = paired_test([after - before for before, after in values])
    before, after = (fmean(side) for side in zip(*values, strict=True))
    return Difference(*what, first.name, second.name, len(values), before, after, test, None, list(changes))


def _pairs(first: Contender, second: Contender, task: str) -> list[tuple[Answer, Answer]]:
    """Both models' answers to the questions that both were asked about the same row."""
    others = {answer.question: answer for answer in second.answers.get(task, [])}
    pairs = [(answer, others[answer.question]) for answer in first.answers.get(task, []) if answer.question in others]
    return [pair for pair in pairs if None in (rows := {pair[0].row_sha256, pair[1].row_sha256}) or len(rows) == 1]


def _why_not(first: Contender, second: Contender, task: str) -> str:
    """Why two models' scores on a task do not compare; empty if they do."""
    for model in (first, second):
        if task not in model.tasks:
            return f"{model.name} was not scored on it"
    scores = first.tasks[task], second.tasks[task]
    for name in ("metric", "shots", "version"):
        one, other = (getattr(score, name) for score in scores)
        if one != other:
            return f"the two scores have different {name}: {one} and {other}"
    return ""


def _change(before: Answer, after: Answer, metric: str) -> Change:
    asked, target = _shared_prompt(before)[-_SHOWN:], before.target
    right = _option(before, target) if isinstance(target, int) and target < len(before.requests) else str(target)
    scores = before.scores[metric], after.scores[metric]
    return Change(before.question, *scores, asked, right, _chosen(before), _chosen(after))


def _chosen(answer: Answer) -> str:
    picked = choice(answer)
    if isinstance(picked, bool):
        return "the expected text" if picked else "another text"
    return _option(answer, picked) if isinstance(picked, int) else str(picked[0])


def _option(answer: Answer, index: int) -> str:
    """One option's text: what its request has beyond the prompt that all of the question's requests share."""
    if not answer.requests:
        return f"option {index}"
    return "".join(map(str, answer.requests[index]))[len(_shared_prompt(answer)) :].strip()[:_SHOWN]


def _shared_prompt(answer: Answer) -> str:
    """How the contexts of a question's requests begin."""
    contexts = [str(context) for context, *_ in answer.requests] or [""]
    differ = (at for at, letters in enumerate(zip(*contexts, strict=False)) if len(set(letters)) > 1)
    return contexts[0][: next(differ, min(map(len, contexts)))]


def _texts(first: Contender, second: Contender) -> list[Difference | Gap]:
    """Each text that one of two models was measured on."""
    found: list[Difference | Gap] = []
    for text in dict.fromkeys((*first.bits, *second.bits)):
        if text not in first.bits or text not in second.bits:
            model = first if text not in first.bits else second
            found.append(Gap(text, second.name, f"{model.name} was not measured on it"))
            continue
        one, other = first.texts.get(text), second.texts.get(text)
        before, after, test, pieces = first.bits[text], second.bits[text], None, 0
        if one is not None and other is not None:
            pieces = len(one.bits)
            if (one.bytes, pieces) != (other.bytes, len(other.bits)):
                found.append(Gap(text, second.name, f"is another text: of {one.bytes:,} and {other.bytes:,} bytes"))
                continue
            per_byte = pieces / one.bytes
            test = paired_test([(y - x) * per_byte for x, y in zip(one.bits, other.bits, strict=True)])
        difference = Difference(text, BITS, first.name, second.name, pieces, before, after, test)
        found.append(replace(difference, lower_is_better=True, in_percent=False))
    return found


def _seed_noise(contenders: Sequence[Contender]) -> dict[tuple[str, str], float]:
    """Subject and measure → largest change of bits between two seeds of one recipe, as a logarithm, or the least."""
    found: dict[tuple[str, str], float] = {}
    for one, other in combinations(contenders, 2):
        if one.recipe is not None and one.recipe == other.recipe:
            theirs = _bits(other)
            for key, value in _bits(one).items():
                change = change_of(value, theirs.get(key, value))
                found[key] = max(change, found.get(key, log1p(SAME_BITS)))
    return found


def _bits(contender: Contender) -> dict[tuple[str, str], float]:
    """All that is measured in bits, by subject and measure."""
    found = {(text, BITS): value for text, value in contender.bits.items()}
    for task, answers in contender.answers.items():
        if bits := [value for answer in answers if (value := bits_of_right(answer)) is not None]:
            found[task, RIGHT] = fmean(bits)
    return found


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences, with their p-values corrected for the number of all tests."""
    tested = [item.test.p for item in differences if item.test is not None]
    corrected = iter(holm(tested))
    return [item if item.test is None else replace(item, corrected_p=next(corrected)) for item in differences]


def _commands(contenders: Sequence[Contender]) -> list[str]:
    """What to run so that all models are compared on all tasks and texts of any of them."""
    tasks = list(dict.fromkeys(task for contender in contenders for task in contender.tasks))
    texts = {text for contender in contenders for text in contender.bits}
    lacking = [
        contender.model
        for contender in contenders
        if any(not contender.answers.get(task) for task in tasks) or texts - contender.texts.keys()
    ]
    return [evaluate_command(contenders, lacking, tasks)] if lacking else []
