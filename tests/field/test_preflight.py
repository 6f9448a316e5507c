"""What would end a run hours later is reported at its start: nothing is prepared, no step runs."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.field.conftest import RECIPE, Run

SENTENCE = "The river runs to the sea, and the sea is never full. "


def change(folder: Path, *changes: tuple[str, str]) -> None:
    """Replace parts of the recipe."""
    text = (folder / "field.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    (folder / "field.yaml").write_text(text, encoding="utf-8")


def nothing_ran(folder: Path) -> bool:
    """Whether no corpus, tokenizer, metrics or checkpoint was written."""
    return not any(path.is_file() for path in (folder / "runs").rglob("*"))


MISTAKES = {
    "task": (("evaluation: {", "evaluation: {tasks: [helaswag], "), "did you mean 'hellaswag'"),
    "group of tasks": (("evaluation: {", "evaluation: {tasks_every: 256, tasks: [comonsense], "), "'commonsense'"),
    "files": (("text/*.txt", "texts/*.txt"), "no file matches 'texts/*.txt'"),
    "builtin": (('files: "text/*.txt"', "builtin: sots"), "no builtin source is named 'sots'"),
    "tokenizer": (("train: {vocab_size: 300}", "file: tokenizer.model"), "tokenizer.file: tokenizer.model does not"),
    "llama2": (("train: {vocab_size: 300}", "builtin: llama2"), "32000 ids but the recipe says model.vocab_size: 300"),
    "ranks": (("threads: 1", "threads: 1, shard: 3"), "hardware.shard: 3"),
    "stage": (("until: 256, batch: 4 ", "until: 256, batch: 100 "), "stage domain"),
    "start": (("stages:", "start: {model: no/such/model.gguf, tokens: 0}\nstages:"), "no/such/model.gguf"),
    "context": (("context: 32", "context: 40000"), "less than a row of 40001 tokens"),
    "half a character": (("evaluation: {", 'evaluation: {prompts: ["hello \\ud83d"], '), "holds half a character"),
}
"""Changes of the recipe, and what the message must say."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_reported_before_anything_is_written(field: Path, tinyllama: Run, mistake: str) -> None:
    parts, message = MISTAKES[mistake]
    change(field, parts)
    assert message in tinyllama("prepare", "field.yaml").refused()
    assert nothing_ran(field)


@pytest.mark.parametrize("command", ["train", "reproduce", "launch"])
def test_the_other_commands_report_them_too(field: Path, tinyllama: Run, command: str) -> None:
    change(field, MISTAKES["task"][0], MISTAKES["tokenizer"][0])
    message = tinyllama(command, "field.yaml").refused()
    assert all(MISTAKES[mistake][1] in message for mistake in ("task", "tokenizer"))
    assert nothing_ran(field)


def test_what_training_needs_is_reported_all_at_once(field: Path, tinyllama: Run) -> None:
    change(field, ("layers: 1, width: 8", "layers: 900, width: 65536"))
    change(field, ("checkpoints: {", "checkpoints: {url: 'nosuch://bucket', "))
    change(field, ("evaluation: {", "evaluation: {tasks_every: 256, data: no/folder, "))
    if find_spec("wandb") is None:
        change(field, ("tensorboard: false", "tensorboard: false, wandb: project"))
    message = tinyllama("train", "field.yaml").refused()
    for part in ("gradients and moments need", "checkpoints.url: nosuch://bucket", "no/folder is no folder"):
        assert part in message
    assert find_spec("wandb") or "logging.wandb" in message
    assert nothing_ran(field)
    change(field, ("url: 'nosuch://bucket', ", ""))
    change(field, ("hardware: {", "hardware: {device: 'cuda:99', "))
    message = tinyllama("reproduce", "field.yaml").refused()
    assert "GB are free" in message
    assert "hardware.device: " in message


def test_one_document_that_is_not_held_out_is_reported_with_keys_that_work(field: Path, tinyllama: Run) -> None:
    (field / "text/book.txt").write_text(SENTENCE * 400, encoding="utf-8")
    change(field, ("text/*.txt", "text/book.txt"))
    message = tinyllama("prepare", "field.yaml").refused()
    assert "corpora.prose: the held-out part gets no text" in message
    assert nothing_ran(field)
    advice = message.partition("hold out blocks of a document: ")[2].strip()
    assert advice, message
    cut, _, held_out = advice.partition(", held_out: ")
    change(field, ("held_out: {share: 20%}", f"{cut}\n    held_out: {held_out}"))
    tinyllama("prepare", "field.yaml").succeeded()


def test_a_large_single_document_is_known_by_its_name(field: Path, tinyllama: Run) -> None:
    with (field / "text/book.txt").open("wb") as file:
        file.truncate(40_000_000)  # sparse; never read
    change(field, ("text/*.txt", "text/book.txt"))
    assert "the held-out part gets no text" in tinyllama("prepare", "field.yaml").refused()
    assert nothing_ran(field)


def test_one_corpus_of_two_is_too_short(field: Path, tinyllama: Run) -> None:
    (field / "poem.jsonl").write_text(json.dumps({"text": "Short."}), encoding="utf-8")
    second = "  poem: {sources: [{files: poem.jsonl}], size: 1K, held_out: {share: 20%}, license: Apache-2.0}\n"
    change(field, ("base: {prose: 100%}", f"{second}base: {{prose: 50%, poem: 50%}}"))
    message = tinyllama("prepare", "field.yaml").refused()
    assert "corpora.poem" in message
    assert "corpora.prose" not in message
    assert nothing_ran(field)


def test_fields_that_no_document_has_are_reported_with_the_reason(field: Path, tinyllama: Run) -> None:
    (field / "data.jsonl").write_text('{"content": "x"}\n' * 9, encoding="utf-8")
    change(field, ("text/*.txt", "data.jsonl"))
    assert (
        "no record of data.jsonl has a field 'text'; its fields are content"
        in tinyllama("prepare", "field.yaml").refused()
    )
    assert nothing_ran(field)


def test_rows_are_counted_exactly_before_training(field: Path, tinyllama: Run) -> None:
    change(field, ("context: 32", "context: 8000"), ("batch: 4 sequences", "batch: 1 sequences"))
    change(field, ("until: 256", "until: 8000"), ("until: 512", "until: 16000"))
    change(field, ("micro_batch: 4", "micro_batch: 1"))
    message = tinyllama("train", "field.yaml").refused()
    assert "corpora.prose: the held-out part has " in message
    assert "less than a row of 8001 tokens" in message
    assert not (field / "runs/field/base").exists()
    assert "less than a row of 8001 tokens" in tinyllama("prepare", "field.yaml").refused()
    assert (field / "runs/field/corpora/prose/manifest.json").is_file()


def test_a_prompt_longer_than_the_context_is_reported_before_training(field: Path, tinyllama: Run) -> None:
    change(field, ("evaluation: {", f"evaluation: {{prompts: ['{SENTENCE * 9}'], "))
    assert "continues prompts of at most 31 tokens" in tinyllama("train", "field.yaml").refused()
    assert not (field / "runs/field/base").exists()


def test_damaged_data_of_a_task_is_reported(field: Path, tinyllama: Run) -> None:
    (field / "data").mkdir()
    (field / "data/piqa_validation.jsonl").write_text('{"goal": "x"}\n', encoding="utf-8")
    change(field, ("evaluation: {", "evaluation: {data: data, tasks: [piqa], tasks_every: 256, "))
    message = tinyllama("train", "field.yaml").refused()
    assert "piqa_validation.jsonl:1: field 'sol1' is missing" in message
    assert nothing_ran(field)


def test_a_model_on_the_hub_is_asked_for_first(field: Path, tinyllama: Run) -> None:
    change(field, ("stages:", "start: {model: someone/llama, tokens: 0}\nstages:"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(field / "cache")}
    message = tinyllama("prepare", "field.yaml", env=offline).refused()
    assert "someone/llama" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert nothing_ran(field)


def test_plan_shows_what_each_check_finds(field: Path, tinyllama: Run) -> None:
    shown = tinyllama("plan", "field.yaml", "--check").succeeded()
    assert "rows" in shown
    assert "FAULT" not in shown
    change(field, MISTAKES["task"][0], MISTAKES["files"][0])
    outcome = tinyllama("plan", "field.yaml", "--check", "--json")
    assert "2 of 15 checks failed: sources, tasks" in outcome.refused()
    found = {entry["check"]: entry["faults"] for entry in json.loads(outcome.out)}
    assert [name for name, faults in found.items() if faults] == ["sources", "tasks"]
    assert nothing_ran(field)


def test_the_recipe_of_these_tests_has_the_parts_that_they_change() -> None:
    assert all(parts[0] in RECIPE for parts, _ in MISTAKES.values())


def test_more_text_mends_a_corpus_that_was_too_short(field: Path, tinyllama: Run) -> None:
    (field / "text").rename(field / "more")
    (field / "text").mkdir()
    for name in ("00.txt", "01.txt", "02.txt", "03.txt", "04.txt", "05.txt"):
        (field / "text" / name).write_text(SENTENCE * 30, encoding="utf-8")
    change(
        field, ("context: 32", "context: 2000"), ("batch: 4 seq", "batch: 1 seq"), ("micro_batch: 4", "micro_batch: 1")
    )
    change(field, ("until: 256", "until: 2000"), ("until: 512", "until: 4000"))
    assert "less than a row of 2001 tokens" in tinyllama("prepare", "field.yaml").refused()
    for path in (field / "more").iterdir():
        path.rename(field / "text" / f"more-{path.name}")
    assert "FAULT" not in tinyllama("plan", "field.yaml", "--check").succeeded()


def test_large_files_are_not_read_whole(field: Path, tinyllama: Run) -> None:
    row = json.dumps({"content": SENTENCE * 20}) + "\n"
    (field / "data.jsonl").write_text(row * 40_000, encoding="utf-8")  # 45 MB, every row without the field
    change(field, ("text/*.txt", "data.jsonl"))
    outcome = tinyllama("plan", "field.yaml", "--check", "--json")
    assert "no record of data.jsonl has a field 'text'" in outcome.out
