"""Arithmetic, mathematics, Chinese and code by lm-eval's own definitions, on rows given as files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.evaluation.test_sandbox import needs_sandbox
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.humaneval import evaluate_code, pass_at_k
from tinyllama.evaluation.scores import EvaluationOptions, MissingTask, TaskScore
from tinyllama.evaluation.tasks import evaluate_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.model import Llama
    from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k_test": [{"question": "The cat saw 3 dogs?", "answer": "seven\n#### 7"}],
    "gsm8k_train": [{"question": f"the cat {i}", "answer": f"#### {i}"} for i in range(6)],
    "arithmetic_2da_validation": [{"context": "Q: 1+2\n\nA:", "completion": " 3"}] * 2,
    "xcopa_zh_test": [
        {"premise": "男人走了。", "choice1": "他累了。", "choice2": "天亮了。", "question": "cause", "label": 1}
    ],
    "xstorycloze_zh_eval": [
        {f"input_sentence_{i}": "the cat sat." for i in range(1, 5)}
        | {"sentence_quiz1": "a mat", "sentence_quiz2": "a town", "answer_right_ending": 2}
    ],
    "humaneval_test": [
        {
            "task_id": "Test/0",
            "prompt": "def one():\n",
            "test": "def check(f):\n    assert f() == 1",
            "entry_point": "one",
        }
    ],
}


EXAMS = {
    "ceval": ("val", "_val", ["id", "question", "A", "B", "C", "D", "answer"]),
    "cmmlu": ("test", "", ["", "Question", "A", "B", "C", "D", "Answer"]),
}
"""Folder, ending and header of the files in each archive, as the hub has them."""


def write_exam(folder: Path, task: str, questions: int = 2) -> Path:
    """An archive's files for every subject, unpacked."""
    from tinyllama.evaluation.harness import subjects_of

    split, ending, header = EXAMS[task]
    (folder / task / split).mkdir(parents=True)
    for number, subject in enumerate(subjects_of(task)):
        with (folder / task / split / f"{subject}{ending}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(header)
            for row in range(questions if number else questions + 1):
                table.writerow([row, f"第{row}题, 选\n一个:", "the cat", "3", "a mat, a town", '"x"', "ABCD"[row % 4]])
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abilities")
    for name, lines in ROWS.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("task", "metric", "questions", "shots"),
    [
        ("gsm8k", "exact_match", 1, 5),
        ("arithmetic_2da", "acc", 2, 0),
        ("xcopa_zh", "acc", 1, 0),
        ("xstorycloze_zh", "acc", 1, 0),
    ],
)
def test_a_task_is_scored_by_its_definition(  # noqa: PLR0913, PLR0917  # its facts
    model: Llama, tokenizer: SentencePieceTokenizer, rows: Path, task: str, metric: str, questions: int, shots: int
) -> None:
    scores = evaluate_tasks(model, tokenizer, [task], rows)
    score = scores.tasks[task]
    assert isinstance(score, TaskScore)
    assert (score.metric, score.questions, score.shots) == (metric, questions, shots)
    assert 0 <= score.score <= 1
    assert len(scores.answers[task]) == questions
    assert scores.answers[task][0].requests


@pytest.mark.parametrize(("task", "subjects"), [("ceval", 52), ("cmmlu", 67)])
def test_an_exam_is_the_mean_over_the_questions_of_all_its_subjects(
    model: Llama, tokenizer: SentencePieceTokenizer, tmp_path: Path, task: str, subjects: int
) -> None:
    scores = evaluate_tasks(model, tokenizer, [task], write_exam(tmp_path, task))
    score, answers = scores.tasks[task], scores.answers[task]
    assert isinstance(score, TaskScore)
    assert (score.metric, score.questions, score.shots) == ("acc", 2 * subjects + 1, 0)
    assert score.score == pytest.approx(sum(answer.scores["acc"] for answer in answers) / len(answers))
    assert len({answer.question for answer in answers}) == len(answers)
    (prompt, option), *others = answers[0].requests
    assert prompt.startswith("以下是中国关于" if task == "ceval" else "以下是关于")
    assert prompt.endswith('第0题, 选\n一个:\nA. the cat\nB. 3\nC. a mat, a town\nD. "x"\n答案：')  # noqa: RUF001  # the definition's own colon
    assert [option, *(other for _, other in others)] == [" A", " B", " C", " D"]


def test_an_exam_without_a_subject_is_missing_and_the_subject_named(
    model: Llama, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    (write_exam(tmp_path, "ceval") / "ceval/val/law_val.csv").unlink()
    result = evaluate_tasks(model, tokenizer, ["ceval"], tmp_path).tasks["ceval"]
    assert isinstance(result, MissingTask)
    assert result.reason.startswith(f"{tmp_path}/ceval/val/law_val.csv is not there; unpack ceval-exam.zip")


def test_an_exam_in_another_layout_is_refused_with_file_line_and_field(
    model: Llama, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    file = write_exam(tmp_path, "cmmlu") / "cmmlu/test/anatomy.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(",B\n", ",E\n"), encoding="utf-8")
    with pytest.raises(EvaluationError, match=r'cmmlu: .*anatomy.csv:5: field \'Answer\' is "E"; expected "A" or'):
        evaluate_tasks(model, tokenizer, ["cmmlu"], tmp_path)


def test_few_shot_prompts_hold_their_examples(model: Llama, tokenizer: SentencePieceTokenizer, rows: Path) -> None:
    (answer,) = evaluate_tasks(model, tokenizer, ["gsm8k"], rows).answers["gsm8k"]
    assert answer.requests[0][0].count("Question:") == 6


def test_examples_that_are_missing_are_named(
    model: Llama, tokenizer: SentencePieceTokenizer, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "gsm8k_test.jsonl").write_bytes((rows / "gsm8k_test.jsonl").read_bytes())
    result = evaluate_tasks(model, tokenizer, ["gsm8k"], tmp_path).tasks["gsm8k"]
    assert isinstance(result, MissingTask)
    assert "gsm8k_train.jsonl does not exist" in result.reason


def test_programs_are_run_only_where_that_is_allowed(
    model: Llama, tokenizer: SentencePieceTokenizer, rows: Path
) -> None:
    result = evaluate_tasks(model, tokenizer, ["code"], rows).tasks["humaneval"]
    assert isinstance(result, MissingTask)
    assert "--run-code" in result.reason


@needs_sandbox
@pytest.mark.parametrize(("body", "passes"), [("    return 1", 1.0), ("    return 2", 0.0)])
def test_humaneval_counts_the_programs_that_pass(
    model: Llama, tokenizer: SentencePieceTokenizer, body: str, passes: float
) -> None:
    (row,) = ROWS["humaneval_test"]
    solved = row | {"prompt": f"{row['prompt']}{body}\n    # "}  # what the model adds is a comment
    score, (answer,) = evaluate_code(model, tokenizer, [solved], EvaluationOptions(run_code=True))
    assert isinstance(score, TaskScore)
    assert score.score == passes
    assert answer.passed == [bool(passes)]


@needs_sandbox
def test_ten_samples_tell_pass_at_10(model: Llama, tokenizer: SentencePieceTokenizer) -> None:
    _, (answer,) = evaluate_code(model, tokenizer, ROWS["humaneval_test"], EvaluationOptions(run_code=True, samples=10))
    assert len(set(answer.responses)) > 1
    assert set(answer.scores) == {"pass@1", "pass@10"}


def test_pass_at_k_is_the_share_of_draws_that_hold_a_passing_program() -> None:
    from itertools import combinations

    for passed in range(6):
        outcomes = [True] * passed + [False] * (5 - passed)
        draws = list(combinations(outcomes, 2))
        assert pass_at_k(5, passed, 2) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(10, 0, 10) == 0.0
