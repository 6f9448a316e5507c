"""Commands with options that nobody meant, in folders that are none."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.field.fuzz.case import Case
from tests.field.fuzz.template import GGUF
from tests.field.fuzz.values import NUMBERS, TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_PLACES = (
    "new", "new/deep", "text", "text/00.txt", "keep.me", "keep.me/x", "/proc/x", "/dev/null", "/dev/null/x", "", "é",
    "a\udcff", "a" * 300, "runs", "records", "hf", "link", "loop", "~", "a b", "-x", "runs/field",
)  # fmt: skip
_THINGS = (
    "field.yaml", "nano", "hf", "gguf", GGUF, "runs/field", "runs/field/base", "runs/field/base/checkpoints/step-2",
    "runs/field/exports/base", "runs/field/exports/base-F16-gguf", "runs/field/corpora/prose", "text", "text/00.txt",
    "records/a.jsonl", "records/a.parquet", "nowhere", "nowhere.yaml", "", ".", "keep.me", "/dev/null", "/proc",
    "hf/config.json",
    "loop", "link", "a\udcff", "a\udcff.yaml", "base", "me/model", "-", "tok/tokenizer.model", "a" * 300,
    "a" * 300 + ".yaml",
)  # fmt: skip
_TASKS = ("arc_easy", "commonsense", "all", "nothing", "", ",", "arc_easy,arc_easy", "humaneval", "gsm8k", " arc_easy")
_OPTIONS: dict[str, tuple[str, str]] = {
    "recipes": ("", "--json"),
    "plan": ("field.yaml", "--variant --set --run --parquet --hardware --gpus --nodes --mfu --price --json"),
    "rehearse": ("field.yaml", "--variant --set --run --gpus --json"),
    "train": ("field.yaml", "--variant --run"),
    "reproduce": ("field.yaml", "--run --data --json"),
    "generate": (
        "hf",
        (
            "--max-new-tokens --temperature --top-k --top-p --min-p --typical-p --repetition-penalty --bad-word "
            "--no-repeat-ngram-size --n --logprobs --file --stop --seed --precision --json"
        ),
    ),
    "chat": ("hf", "--system --max-new-tokens --temperature --min-p --seed --precision"),
    "serve": (GGUF, "--host --port --api-key --max-tokens --max-requests --max-bytes"),
    "import": ("hf", "--recipe --run --json"),
    "export": ("field.yaml", "--format --precision --run --data"),
    "publish": ("hf", "--repo --private --dry-run --json"),
    "prepare": ("field.yaml", "--run --workers --executor --sbatch --exact-all --json"),
    "corpus verify": ("runs/field/corpora/prose", "--sample --json"),
    "corpus inspect": ("runs/field/corpora/prose", "--origin --limit --json"),
    "corpus export": ("runs/field/corpora/prose", "--out --json"),
    "tokenizer train": ("field.yaml", "--out --vocab-size"),
    "evaluate": ("hf", "--tasks --data --limit --batch --precision --text --samples --out --run --json"),
    "report": ("field.yaml", "--run --data"),
    "contaminated": ("field.yaml", "--tasks --data --run --json"),
    "launch": (
        "field.yaml",
        (
            "--nodes --gpus-per-node --ranks-per-node --cpus-per-node --partition --account --time --notice "
            "--max-restarts --sbatch --setup --python --variant --run"
        ),
    ),
}  # fmt: skip
_REQUIRED = {"corpus export": "--out", "tokenizer train": "--out", "import": "--recipe", "publish": "--repo"}
_LONG = {"train", "reproduce", "prepare", "tokenizer train"}
"""Commands that work for a minute on a shipped recipe."""
_ALWAYS = {"publish": "--dry-run", "launch": "--dry-run", "generate": "--max-new-tokens", "serve": "--port"}
_FLAGS = {"--json", "--private", "--dry-run", "--exact-all"}
_CHOICES = {
    "--format": ("hf", "gguf", "x"),
    "--precision": ("fp32", "bf16", "F16", "q8_0", "x"),
    "--executor": ("local", "slurm", "ray", "x"),
    "--hardware": ("a100-40g", "h100", "x", ""),
    "--tasks": _TASKS,
    "--variant": ("plain", "base", "x", ""),
    "--text": (
        "text/00.txt",
        "records/a.jsonl",
        "records/a.parquet",
        "runs/field/corpora/prose",
        "text",
        "nowhere",
        "keep.me",
    ),
    "--recipe": ("field.yaml", "nano", "nowhere.yaml", "hf"),
    "--repo": ("a/b", "a", "a/b/c", "", "a/../b", "é/x"),
    "--host": ("127.0.0.1", "0.0.0.0", "localhost", "::1", "256.1.1.1", "nowhere.invalid", ""),  # noqa: S104  # refused
    "--port": ("0", "0", "0", "65536", "-1", "x"),
    "--batch": ("auto", "1", "0", "-1", "x", "7"),
    "--set": ("seed=2", "seed", "=", "seed=", "a.b.c=1", "stages.0.until=128", "stages.9.until=1", "model=[", "seed={"),
    "--n": ("1", "2", "0", "x"),
    "--file": ("text/00.txt", "text", "nowhere", "keep.me", "\udcff"),
    "--max-new-tokens": ("1", "3", "0", "x"),
    "--samples": ("1", "2", "0"),
    "--workers": ("1", "2", "0", "x"),
    "--nodes": ("1", "2", "0", "99999999999999999999"),
    "--time": ("1:00:00", "x", "99:99", "-1", "24:00:00"),
}
_FOLDERS = {"--run", "--out", "--data", "--parquet"}
_ENVIRONMENTS = (
    {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"NO_COLOR": "1"}, {"COLUMNS": "1"},
    {"COLUMNS": "x"},
    {"HOME": "/dev/null"}, {"HOME": ""}, {"TMPDIR": "/nowhere"}, {"TINYLLAMA_CACHE": "/dev/null"}, {"LC_ALL": "C"},
    {"RANK": "x"}, {"WORLD_SIZE": "2"}, {"LOCAL_RANK": "-1", "RANK": "0", "WORLD_SIZE": "1"}, {"SLURM_JOB_ID": "1"},
    {"CUDA_VISIBLE_DEVICES": "x"}, {"OMP_NUM_THREADS": "x"}, {"TERM": "dumb"},
)  # fmt: skip


def option_case(random: Random) -> Case:
    """Any command with some options, things and places."""
    command = random.choice(list(_OPTIONS))
    usual, options = _OPTIONS[command]
    argv = command.split()
    if usual:
        thing = usual if random.random() < 0.6 else random.choice(_THINGS)
        argv.append(usual if thing == "nano" and command in _LONG else thing)
    if command == "generate":
        argv += random.sample(("The river", "", "\udcff", "\0"[:0], "a" * 3000, "\n", "</s>"), random.choice((1, 1, 2)))
    for option in _given(random, command, options.split()):
        argv.append(option)
        if option not in _FLAGS:
            argv.append(_value(random, option))
    if random.random() < 0.03:
        argv.insert(random.randrange(len(argv) + 1), random.choice(("--", "--help", "-h", "--nothing", "\udcff", "")))
    return Case(
        argv,
        needs=random.choice(("texts", "prepared", "exported", "exported")),
        files=_surroundings(random),
        links={"link": "text", "loop": "loop"},
        env=dict(random.choice(_ENVIRONMENTS)) if random.random() < 0.2 else {},
    )


def _given(random: Random, command: str, known: Sequence[str]) -> list[str]:
    """Some options of a command, with those that it needs or that keep it short and from other machines."""
    given = random.sample(known, min(len(known), random.choice((0, 1, 2, 4))))
    required = _REQUIRED.get(command)
    if required and required not in given and random.random() < 0.95:
        given.append(required)
    always = _ALWAYS.get(command)
    return [*given, always] if always and always not in given else given


def _value(random: Random, option: str) -> str:
    if option in _FOLDERS:
        return random.choice(_PLACES)
    if option in _CHOICES:
        return random.choice(_CHOICES[option])
    value = random.choice(NUMBERS) if random.random() < 0.7 else random.choice(TEXTS)
    return str(value).replace("\0", "")


def _surroundings(random: Random) -> dict[str, bytes | None]:
    """Files of the user's in the places that commands write to, or something else at a place that they need."""
    if random.random() < 0.7:
        return {}
    return random.choice(
        (
            {"runs/field/keep.me": b"mine"},
            {"runs": b"mine"},
            {"runs/field": b"mine"},
            {"runs/field/corpora": b"mine"},
            {"runs/field/exports/base/keep.me": b"mine"},
            {"runs/field/tokenizer/tokenizer_notes.md": b"mine"},
            {"runs/field/corpora/prose/keep.me": b"mine"},
            {"runs/field/base/checkpoints/keep.me": b"mine"},
            {"runs/field/base/checkpoints/step-x/keep.me": b"mine"},
            {"new/keep.me": b"mine", "new/tokenizer.py": b"mine", "new/tokenizers/keep.me": b"mine"},
            {"new": b"mine"},
            {"evaluations": b"mine"},
            {"evaluations/hf/keep.me": b"mine"},
            {"home": b"mine"},
            {"gguf/keep.me": b"mine"},
            {"hf-F16-gguf/keep.me": b"mine"},
            {"hf/keep.me": b"mine"},
            {"runs/field/recipe.yaml": b"name: ["},
        )
    )


_INTERRUPTED = (
    "train field.yaml", "prepare field.yaml", "tokenizer train field.yaml --out out", "reproduce field.yaml",
    "rehearse field.yaml",
    "evaluate hf --tasks arc_easy --text text/00.txt", "generate hf The",
    "corpus export runs/field/corpora/prose --out out",
    "export field.yaml --format gguf", "plan tinyllama-v1.1", "report field.yaml",
)  # fmt: skip


def interrupt_case(random: Random) -> Case:
    """A command that gets a signal; the moment is the seed's, what it meets is the machine's."""
    argv = random.choice(_INTERRUPTED).split()
    number = random.choice((signal.SIGINT, signal.SIGTERM))
    needs = "texts" if argv[0] in {"train", "prepare", "tokenizer", "rehearse", "plan"} else "exported"
    return Case(argv, needs=needs, interrupt=(int(number), random.random() ** 2 * 4 + 0.2), note=number.name)
