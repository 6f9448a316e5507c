"""The folders that cases start from: texts, then a prepared, a trained and an exported family, each made once."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.field.conftest import RECIPE

if TYPE_CHECKING:
    from tests.field.commands import Commands

PARTS = ("texts", "prepared", "trained", "exported")
_EVALUATION = Path(__file__).parents[2] / "legacy/family-4bd9be0/data"
_STEPS: dict[str, tuple[str, ...]] = {
    "prepared": ("prepare field.yaml", "corpus export runs/field/corpora/prose --out meg"),
    "trained": ("train field.yaml",),
    "exported": ("export field.yaml", "export field.yaml --format gguf", "evaluate field.yaml"),
}
_COPIES = {
    "prepared": {"runs/field/tokenizer": "tok"},
    "exported": {"runs/field/exports/base": "hf", "runs/field/exports/base-F16-gguf": "gguf"},
}
GGUF, CHAT_GGUF = "gguf/field-base-F16.gguf", "chat-F16-gguf/chat-F16.gguf"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}".ljust(120)


class Template:
    """Makes the parts on demand, below a folder; threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Make the parts in a folder, or use those that are there."""
        self._folder, self._lock = folder, Lock()

    def part(self, name: str, commands: Commands) -> Path:
        """The folder of a part, for copies."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._made(name, commands)

    def copy(self, name: str, folder: Path, commands: Commands) -> None:
        """Copy a part to a new folder."""
        shutil.copytree(self.part(name, commands), folder, symlinks=True)

    def _made(self, name: str, commands: Commands) -> Path:
        done = self._folder / name
        if done.exists():
            return done
        beside = self._folder / f"{name}.part"
        if name == PARTS[0]:
            write_texts(beside)
        else:
            shutil.copytree(self._made(PARTS[PARTS.index(name) - 1], commands), beside)
        for line in _STEPS.get(name, ()):
            commands.run(*line.split(), cwd=beside).succeeded()
        for source, target in _COPIES.get(name, {}).items():
            shutil.copytree(beside / source, beside / target)
        if name == "exported":
            _make_chat_model(beside, commands)
        return beside.rename(done)


def write_texts(folder: Path) -> None:
    """Write the small recipe and its documents, in each format that sources have."""
    for name in ("text", "data", "runs", "home", "cache"):
        (folder / name).mkdir(parents=True)
    documents = ["\n".join(_sentence(60 * number + line) for line in range(60)) for number in range(24)]
    for number, document in enumerate(documents):
        (folder / f"text/{number:02}.txt").write_text(document, encoding="utf-8")
    records = [{"text": document, "meta": {"number": number}} for number, document in enumerate(documents)]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    files = {
        "field.yaml": RECIPE.encode(),
        "records/a.jsonl": lines,
        "records/a.jsonl.gz": gzip.compress(lines, mtime=0),
        "records/a.jsonl.zst": zstandard.compress(lines),
        "records/a.json": json.dumps(records).encode(),
        "runs/keep.me": b"mine",
        "runs/notes/keep.me": b"mine",
        "keep.me": b"mine",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    table = pa.Table.from_pylist(records)
    pq.write_table(table, folder / "records/a.parquet")
    with pa.OSFile(str(folder / "records/a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    shutil.copytree(_EVALUATION, folder / "data", dirs_exist_ok=True)


def _make_chat_model(folder: Path, commands: Commands) -> None:
    shutil.copytree(folder / "hf", folder / "chat")
    config = folder / "chat/tokenizer_config.json"
    settings = json.loads(config.read_bytes()) | {"chat_template": CHAT_TEMPLATE}
    config.write_text(json.dumps(settings), encoding="utf-8")
    commands.run("export", "chat", "--format", "gguf", cwd=folder).succeeded()


def _sentence(number: int) -> str:
    return f"The river number {number} runs to the sea of {number % 7}."


class Files:
    """Reads the files of the template for those who change them."""

    def __init__(self, template: Template, commands: Commands) -> None:
        """Read from a template, whose missing parts the commands make."""
        self._template, self._commands = template, commands

    def read(self, part: str, file: str) -> bytes:
        """The bytes of one file."""
        return (self._template.part(part, self._commands) / file).read_bytes()

    def names(self, part: str, below: str) -> list[str]:
        """Files below a folder, in the order of their names."""
        root = self._template.part(part, self._commands)
        return sorted(path.relative_to(root).as_posix() for path in (root / below).rglob("*") if path.is_file())
