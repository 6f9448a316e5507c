"""Conversations at a terminal and line by line from stdin."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.tokenizer.chat_templates import ZEPHYR
from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama.cli.commands import app
from tinyllama.export.gguf_folder import convert_to_gguf
from tinyllama.formats.open import open_model
from tinyllama.inference import Conversation, Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

GREEDY = ["--temperature", "0", "--max-new-tokens", "6"]


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends a text soon, and refuses one message."""
    path = tmp_path_factory.mktemp("chat") / "model"
    with_tokenizer(foreign_folder(path, max_position_embeddings=200_000), prepared)
    refusal = "{% if messages[-1].content == 'no' %}{{ raise_exception('not this') }}{% endif %}"
    (path / "chat_template.jinja").write_text(refusal + ZEPHYR)
    return path


def chat(model: Path, said: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["chat", str(model), *GREEDY, *options], input=said)


def answers(model: Path, *messages: str, system: str | None = None) -> list[str]:
    source = open_model(model)
    conversation = Conversation(
        source.load(), source.tokenizer(), Sampling(temperature=0), max_new_tokens=6, seed=0
    )  # fmt: skip
    conversation.system = system
    return ["".join(conversation.answer(message)) for message in messages]


def test_each_line_of_stdin_gets_its_answer_and_nothing_else_comes(folder: Path) -> None:
    done = chat(folder, "the\n\n  def add(x \n/quit\nmore\n")
    assert done.exit_code == 0, done.output
    assert done.stdout == "".join(f"{answer}\n" for answer in answers(folder, "the", "def add(x"))
    assert done.stderr.count("--max-new-tokens") == 2


def test_commands_change_the_conversation(folder: Path) -> None:
    said = "/system Be brief.\nthe\n/reset\n/system\nthe\n/help\n/rest\n/etc/hosts"
    brief, plain = answers(folder, "the", system="Be brief."), answers(folder, "the", "/etc/hosts")
    assert brief[0] != plain[0]
    done = chat(folder, said)
    assert done.stdout.splitlines() == "\n".join([*brief, *plain]).splitlines()
    assert "/system TEXT" in done.stderr
    assert "/rest is no command" in done.stderr
    assert chat(folder, "the", "--system", "Be brief.").stdout == f"{brief[0]}\n"


def test_a_gguf_file_chats_as_the_folder_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    convert_to_gguf(open_model(folder), tmp_path, "F32")
    (file,) = tmp_path.glob("*.gguf")
    assert chat(file, "the\ndef").stdout == chat(folder, "the\ndef").stdout


def test_a_model_without_a_template_is_refused_with_the_command_that_takes_it(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".jinja":
            (copy / file.name).symlink_to(file)
    done = chat(copy, "the")
    assert f"{copy}: has no chat template" in str(done.exception)
    assert f"`tinyllama generate {copy} TEXT`" in str(done.exception)


def test_an_error_ends_a_script(folder: Path) -> None:
    done = chat(folder, "no\nthe\n")
    assert "not this" in str(done.exception)
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_at_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_ends(folder: Path) -> None:
    terminal, inside = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "tinyllama", "chat", str(folder), "--temperature", "0", "--max-new-tokens", "100000"],
        stdin=inside, stdout=inside, stderr=inside, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(inside)
    seen = b""

    def until(text: bytes, *, interrupting: bool = False) -> None:
        nonlocal seen
        waits = 12
        if interrupting:
            program.send_signal(signal.SIGINT)
        while text not in seen:
            if select.select([terminal], [], [], 10)[0]:
                seen += os.read(terminal, 4096)
                continue
            waits -= 1
            assert waits, seen
            if interrupting:  # again: readline sleeps through a signal that comes just before it waits
                program.send_signal(signal.SIGINT)
        seen = seen.partition(text)[2]

    try:
        until(b"> ")
        until(b"Ctrl-D ends\r\n> ", interrupting=True)
        os.write(terminal, b"no\n")
        until(b"Error: the model's chat template refuses the conversation: not this\r\n> ")
        os.write(terminal, b"the\n")
        until(b"the\r\n")
        seen += os.read(terminal, 1)  # of the answer
        until(b"\r\n> ", interrupting=True)
        os.write(terminal, b"\x04")
        assert program.wait() == 0
    finally:
        program.kill()
        program.wait()
        os.close(terminal)
