"""Local copies of the tasks' data: where they are kept, and what lm-eval's definitions read in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Row = dict[str, Any]  # of a data set; `Field` checks the types of its keys


class Field(NamedTuple):
    """One field that a task reads: what it must be, in words and as a test of the row."""

    name: str
    expected: str
    holds: Callable[[Row], bool]


class TaskData(NamedTuple):
    """Where a task's rows are kept, and which fields each must have."""

    file: str
    """Path below the folder of all data; with a `*` for the subject, if the task has a file for each."""
    split: str
    original: str
    """Name on the Hugging Face hub; in parentheses its configuration, or the file with its rows."""
    fields: tuple[Field, ...]
    question: Callable[[Row], str]
    """A row as a text that contained the question would spell it, with the right answer."""
    examples: str | None = None
    """File with the rows that are shown as examples, of split `train`."""
    archive: str | None = None
    """Archive on the hub that holds the rows; it is unpacked into the first folder of `file`."""

    def question_files(self, data: Path) -> dict[str, Path]:
        """The files with its questions that are in the folder `data`: subject → file; one file has the subject ""."""
        before, star, after = self.file.partition("*")
        if not star:
            return {"": data / self.file} if (data / self.file).is_file() else {}
        name_before = before.rpartition("/")[2]
        found = sorted(data.glob(self.file))
        return {path.name.removeprefix(name_before).removesuffix(after): path for path in found if path.is_file()}

    def files(self, data: Path) -> list[Path]:
        """All files in the folder `data` that its score depends on."""
        examples = [data / self.examples] if self.examples and (data / self.examples).is_file() else []
        return [*self.question_files(data).values(), *examples]

    @property
    def hub(self) -> tuple[str, str | None]:
        """Its repository on the hub, and what to take there: an archive, a file or a configuration."""
        repository, _, inside = self.original.partition(" ")
        return repository, self.archive or inside.strip("()") or None

    @property
    def remedy(self) -> str:
        """How to get the file."""
        if self.archive:
            folder = self.file.partition("/")[0]
            return f"unpack {self.archive} of {self.original} of the Hugging Face hub in the folder {folder} there"
        return f"save {self.original} of the Hugging Face hub, split {self.split}, there as JSON lines"


def no_data(task: TaskData, absent: Sequence[Path]) -> str:
    """Why a task cannot be scored: which of its files are not there, and how to get them."""
    wanted = ", ".join(map(str, absent[:3]))
    others = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    return f"{wanted}{others} {'are' if len(absent) > 1 else 'is'} not there; {task.remedy}"


def _text(*names: str) -> tuple[Field, ...]:
    def test(name: str) -> Callable[[Row], bool]:
        return lambda row: isinstance(row[name], str)

    return tuple(Field(name, "text", test(name)) for name in names)


def _one_of(name: str, *values: object) -> Field:
    spelled = " or ".join(json.dumps(value) for value in values)
    return Field(name, spelled, lambda row: type(row[name]) is type(values[0]) and row[name] in values)


def _texts(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) and item for item in value)


def _labelled(choices: object) -> bool:
    return (
        isinstance(choices, dict)
        and _texts(choices.get("text"))
        and _texts(choices.get("label"))
        and len(choices["text"]) == len(choices["label"])
    )


def _has_gap(sentence: object) -> bool:
    return isinstance(sentence, str) and "_" in sentence


_CHOICES = (
    Field("choices", 'like {"text": ["…", "…"], "label": ["A", "B"]}', lambda row: _labelled(row["choices"])),
    Field("answerKey", "one of choices.label", lambda row: row["answerKey"] in row["choices"]["label"]),
)
_HELLASWAG = (
    *_text("activity_label", "ctx_a", "ctx_b"),
    Field("endings", "a list of four texts", lambda row: _texts(row["endings"]) and len(row["endings"]) == 4),
    _one_of("label", "0", "1", "2", "3"),
)
_OPENBOOKQA = (*_text("question_stem"), *_CHOICES)
_WINOGRANDE = (
    Field("sentence", "text with a _ where the option goes", lambda row: _has_gap(row["sentence"])),
    *_text("option1", "option2"),
    _one_of("answer", "1", "2"),
)
_ARC = (*_text("question"), *_CHOICES)
_BOOLQ = (*_text("passage", "question"), _one_of("label", 0, 1))
_PIQA = (*_text("goal", "sol1", "sol2"), _one_of("label", 0, 1))


def _chosen(key: str) -> Callable[[Row], str]:
    """A question and the choice that its answerKey names."""

    def words(row: Row) -> str:
        choices = row["choices"]
        return f"{row[key]} {choices['text'][choices['label'].index(row['answerKey'])]}"

    return words


_SUM_NAMES = {
    "1dc": "single_digit_three_ops", "2da": "two_digit_addition", "2dm": "two_digit_multiplication",
    "2ds": "two_digit_subtraction", "3da": "three_digit_addition", "3ds": "three_digit_subtraction",
    "4da": "four_digit_addition", "4ds": "four_digit_subtraction", "5da": "five_digit_addition",
    "5ds": "five_digit_subtraction",
}  # fmt: skip
_STORY = ("input_sentence_1", "input_sentence_2", "input_sentence_3", "input_sentence_4")
_GSM8K = (
    *_text("question"),
    Field("answer", "text that ends in #### and the number", lambda row: "#### " in row["answer"]),
)
_EXAM = (*_text("question", "A", "B", "C", "D"), _one_of("answer", "A", "B", "C", "D"))
_CAPITAL_EXAM = (*_text("Question", "A", "B", "C", "D"), _one_of("Answer", "A", "B", "C", "D"))
_XCOPA = (*_text("premise", "choice1", "choice2"), _one_of("question", "cause", "effect"), _one_of("label", 0, 1))

TASK_DATA = {
    "hellaswag": TaskData(
        "hellaswag_validation.jsonl", "validation", "Rowan/hellaswag", _HELLASWAG,
        lambda row: f"{row['ctx_a']} {row['ctx_b']} {row['endings'][int(row['label'])]}",
    ),
    "openbookqa": TaskData(
        "openbookqa_test.jsonl", "test", "allenai/openbookqa (main)", _OPENBOOKQA, _chosen("question_stem")
    ),
    "winogrande": TaskData(
        "winogrande_xl_validation.jsonl", "validation", "allenai/winogrande (winogrande_xl)", _WINOGRANDE,
        lambda row: row["sentence"].replace("_", row[f"option{row['answer']}"]),
    ),
    "arc_challenge": TaskData(
        "arc_challenge_test.jsonl", "test", "allenai/ai2_arc (ARC-Challenge)", _ARC, _chosen("question")
    ),
    "arc_easy": TaskData("arc_easy_test.jsonl", "test", "allenai/ai2_arc (ARC-Easy)", _ARC, _chosen("question")),
    "boolq": TaskData(
        "boolq_validation.jsonl", "validation", "aps/super_glue (boolq)", _BOOLQ,
        lambda row: f"{row['passage']} {row['question']}",
    ),
    "piqa": TaskData(
        "piqa_validation.jsonl", "validation", "baber/piqa", _PIQA,
        lambda row: f"{row['goal']} {row['sol2' if row['label'] else 'sol1']}",
    ),
    "humaneval": TaskData(
        "humaneval_test.jsonl", "test", "openai/openai_humaneval", _text("task_id", "prompt", "test", "entry_point"),
        lambda row: row["prompt"],
    ),
    "gsm8k": TaskData(
        "gsm8k_test.jsonl", "test", "openai/gsm8k (main)", _GSM8K, lambda row: f"{row['question']} {row['answer']}",
        examples="gsm8k_train.jsonl",
    ),
    **{
        f"arithmetic_{kind}": TaskData(
            f"arithmetic_{kind}_validation.jsonl", "validation", f"EleutherAI/arithmetic (data/{name}.jsonl)",
            _text("context", "completion"), lambda row: f"{row['context']}{row['completion']}",
        )
        for kind, name in _SUM_NAMES.items()
    },
    "xcopa_zh": TaskData(
        "xcopa_zh_test.jsonl", "test", "cambridgeltl/xcopa (zh)", _XCOPA,
        lambda row: f"{row['premise']} {row['choice2' if row['label'] else 'choice1']}",
    ),
    "xstorycloze_zh": TaskData(
        "xstorycloze_zh_eval.jsonl", "eval", "juletxara/xstory_cloze (zh)",
        (*_text(*_STORY, "sentence_quiz1", "sentence_quiz2"), _one_of("answer_right_ending", 1, 2)),
        lambda row: " ".join([*(row[name] for name in _STORY), row[f"sentence_quiz{row['answer_right_ending']}"]]),
    ),
    "ceval": TaskData(
        "ceval/val/*_val.csv", "val", "ceval/ceval-exam", _EXAM, lambda row: f"{row['question']} {row[row['answer']]}",
        archive="ceval-exam.zip",
    ),
    "cmmlu": TaskData(
        "cmmlu/test/*.csv", "test", "haonan-li/cmmlu", _CAPITAL_EXAM,
        lambda row: f"{row['Question']} {row[row['Answer']]}", archive="cmmlu_v1_0_1.zip",
    ),
}  # fmt: skip
"""By lm-eval's name; the split is the one its definition evaluates."""
