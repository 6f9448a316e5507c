"""What the operating system refuses is one line that names the file, and any character can be printed."""

import json
from pathlib import Path

import pytest

from tests.field.conftest import Run

pytestmark = pytest.mark.field

LONG = "n" * 300
COMMANDS = {
    "prepare": ("prepare", "field.yaml"),
    "train": ("train", "field.yaml"),
    "report": ("report", "field.yaml"),
    "reproduce": ("reproduce", "field.yaml"),
    "export": ("export", "field.yaml"),
    "evaluate": ("evaluate", "field.yaml"),
    "launch": ("launch", "field.yaml"),
    "plan": ("plan", "field.yaml"),
    "rehearse": ("rehearse", "field.yaml"),
}
READS_ONLY = {"plan", "rehearse"}
"""Commands to which a folder that is not there means that nothing is prepared."""


def _one_line(message: str, name: str) -> None:
    errors = [line for line in message.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == 1, message
    assert name in errors[0]
    assert "; " in errors[0]


@pytest.mark.parametrize(
    ("command", "run"),
    [
        *((command, "a-file") for command in COMMANDS),
        *(("prepare", run) for run in ("a-file/inside", "/proc/x", LONG, "loop", "/dev/null")),
        *((command, LONG) for command in ("plan", "train", "report")),
    ],
)
def test_a_run_folder_that_cannot_be_is_one_line(field: Path, tinyllama: Run, command: str, run: str) -> None:
    (field / "a-file").write_text("theirs")
    (field / "loop").symlink_to("loop")
    done = tinyllama(*COMMANDS[command], "--run", run)
    if command in READS_ONLY and run != LONG:
        done.succeeded()
    else:
        _one_line(done.refused(), run)
    assert (field / "a-file").read_text() == "theirs"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("tokenizer", "train", "field.yaml", "--out", "a-file"), "a-file"),
        (("tokenizer", "train", "field.yaml", "--out", "/proc/x"), "/proc/x"),
        (("plan", "field.yaml", "--variant", "plain", "--parquet", "text"), "text"),
        (("plan", "field.yaml", "--variant", "plain", "--parquet", "/proc/x"), "/proc/x"),
        (("plan", "field.yaml", "--variant", "plain", "--parquet", "a-file/x"), "a-file/x"),
        (("plan", "text"), "text"),
        (("plan", f"{LONG}.yaml"), LONG[:40]),
        (("generate", LONG, "prompt"), LONG),
        (("generate", "loop", "prompt"), "loop"),
        (("evaluate", LONG), LONG),
        (("corpus", "inspect", LONG), LONG),
        (("corpus", "verify", "a-file"), "a-file"),
        (("corpus", "export", "a-file", "--out", "x"), "a-file"),
        (("contaminated", LONG), LONG),
        (("publish", LONG, "--repo", "me/x"), LONG),
        (("publish", "a-file", "--repo", "me/x"), "a-file"),
        (("export", LONG, "--format", "gguf"), LONG),
    ],
)
def test_any_path_that_cannot_be_is_one_line(
    field: Path, tinyllama: Run, arguments: tuple[str, ...], name: str
) -> None:
    (field / "a-file").write_text("theirs")
    (field / "loop").symlink_to("loop")
    _one_line(tinyllama(*arguments).refused(), name)


def test_a_full_disk_names_the_file(field: Path, tinyllama: Run) -> None:
    (field / "table").symlink_to("/dev/full")
    done = tinyllama("plan", "field.yaml", "--variant", "plain", "--parquet", "table")
    _one_line(done.refused(), "table")


def test_a_file_in_place_of_a_part_of_the_family_is_one_line(field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    (field / "runs/field/base").write_text("theirs")
    _one_line(tinyllama("train", "field.yaml").refused(), "runs/field/base")


ASCII = {"PYTHONIOENCODING": "ascii"}


@pytest.mark.usefixtures("field")
def test_any_encoding_prints_a_plan(tinyllama: Run) -> None:
    for encoding in ("ascii", "latin-1", "cp1252", "ascii:strict"):
        assert "plain" in tinyllama("plan", "field.yaml", env={"PYTHONIOENCODING": encoding}).succeeded()
    assert "chinese" in tinyllama("plan", "nano", env=ASCII).succeeded()


def test_json_loses_no_character_in_any_encoding(field: Path, tinyllama: Run) -> None:
    name = "text/über-人工*.txt"
    (field / "text/00.txt").rename(field / "text/über-人工.txt")
    (field / "other.yaml").write_text((field / "field.yaml").read_text().replace("text/*.txt", name))
    tinyllama("prepare", "other.yaml", "--set", "corpora.prose.cut=100", "--set", "corpora.prose.held_out.by=block")
    inspect = ("corpus", "inspect", "runs/field/corpora/prose", "--json")
    for encoding in ("ascii", "latin-1", "utf-8"):
        found = json.loads(tinyllama(*inspect, env={"PYTHONIOENCODING": encoding}).succeeded())
        assert found["sources"] == [{"files": name}]


def test_progress_and_messages_print_in_any_encoding(field: Path, tinyllama: Run) -> None:
    (field / "other.yaml").write_text((field / "field.yaml").read_text().replace("A few documents", "人工"))
    done = tinyllama("train", "other.yaml", env=ASCII)
    assert done.succeeded()
    assert "Traceback" not in done.err
    assert "人工" in (field / "runs/field/recipe.yaml").read_bytes().decode()
    prompt = b"\xff river".decode(errors="surrogateescape")
    done = tinyllama("generate", "runs/field/base", prompt, "--max-new-tokens", "2")
    assert done.succeeded().startswith("\ufffd river")


@pytest.mark.usefixtures("field")
def test_arguments_that_are_no_utf_8_are_one_line(tinyllama: Run) -> None:
    odd = b"odd-\xff".decode(errors="surrogateescape")
    for arguments in (
        ("plan", odd),
        ("generate", odd, "x"),
        ("evaluate", odd),
        ("corpus", "verify", odd),
        ("plan", "field.yaml", "--variant", odd),
        ("plan", "field.yaml", "--set", f"name={odd}"),
        (odd,),
    ):
        done = tinyllama(*arguments)
        assert done.code == 2, done
        assert "Traceback" not in done.err
        assert "odd-" in done.err


def test_a_run_folder_whose_name_is_no_utf_8_is_one_line(field: Path, tinyllama: Run) -> None:
    odd = b"odd-\xff".decode(errors="surrogateescape")
    for command in ("prepare", "train"):
        _one_line(tinyllama(command, "field.yaml", "--run", odd).refused(), "odd-")
    assert not (field / odd).exists()
