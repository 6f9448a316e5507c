"""The command `chat`: a conversation with a model, at a terminal or line by line from stdin."""

from __future__ import annotations

import signal
import sys
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import Device, Precision, app, as_text, whole
from tinyllama.cli.generation import options as opt
from tinyllama.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.inference import Conversation

_HELP = """/system TEXT  set the system message for the next answers; without TEXT, remove it
/reset        begin a new conversation; the system message stays
/help         show this
/quit         end, as Ctrl-D does
Ctrl-C stops an answer; what came of it stays in the conversation."""


@app.command(
    short_help="Hold a conversation with a chat model.",
    epilog='Example: tinyllama chat SmolLM2-135M-Instruct.Q8_0.gguf --system "Answer briefly."',
)
def chat(  # a command's options
    model: opt.ModelName,
    *,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system message.")] = None,
    max_new_tokens: Annotated[int, whole("Maximum number of new tokens per answer.")] = 512,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    typical_p: opt.TypicalP = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    no_repeat_ngram_size: opt.NoRepeatNgram = None,
    bad_words: opt.BadWords = None,
    seed: opt.Seed = 0,
    precision: opt.ModelPrecision = Precision.FP32,
    device: Device = "auto",
) -> None:
    """Hold a conversation by the model's chat template; each line is a message, and /help lists the commands.

    Without a terminal, the lines of stdin are answered one after another, without a prompt.
    """
    from tinyllama.formats.open import open_model
    from tinyllama.inference import Conversation, require_chat_template

    source = open_model(model)
    tokenizer = source.tokenizer()
    require_chat_template(tokenizer, source)
    settings = opt.choose_sampling(
        source, tokenizer, bad_words, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        typical_p=typical_p, repetition_penalty=repetition_penalty, no_repeat_ngram_size=no_repeat_ngram_size,
    )  # fmt: skip
    weights = opt.load_model(source, precision, device)
    conversation = Conversation(weights, tokenizer, settings, max_new_tokens=max_new_tokens, seed=seed)
    conversation.system = None if system is None else as_text(system)
    if not sys.stdin.isatty():
        for line in sys.stdin.buffer:
            if not _obey(conversation, line.decode("utf-8", "replace").strip()):
                return
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends an answer, not the command
    typer.echo("/help lists the commands; Ctrl-D ends", err=True)
    for line in _typed_lines():
        try:
            if not _obey(conversation, line.strip()):
                return
        except KeyboardInterrupt:
            typer.echo()
        except UserError as error:
            typer.echo(f"Error: {error}", err=True)


def _typed_lines() -> Iterator[str]:
    """What is typed until Ctrl-D, with the arrow keys for earlier lines where the system has them."""
    with suppress(ImportError):
        import_module("readline")
    while True:
        try:
            yield as_text(input("> " if sys.stdout.isatty() else ""))
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo("\n/quit or Ctrl-D ends", err=True)


def _obey(conversation: Conversation, line: str) -> bool:
    """Obey a command, or answer a message; False ends.

    Raises:
        UserError: see `Conversation.answer`.
    """
    command, _, text = line.partition(" ")
    match command:
        case "":
            pass
        case "/quit":
            return False
        case "/reset":
            conversation.reset()
        case "/system":
            conversation.system = text.strip() or None
        case "/help":
            typer.echo(_HELP, err=True)
        case _ if command[0] == "/" and command[1:].isalpha():
            typer.echo(f"{command} is no command; /help lists them", err=True)
        case _:
            _answer(conversation, line)
    return True


def _answer(conversation: Conversation, message: str) -> None:
    from tinyllama.inference import Ending

    with closing(conversation.answer(message)) as pieces:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    if conversation.ending is Ending.LENGTH:
        typer.echo("note: the answer ends here because it has as many tokens as --max-new-tokens allows", err=True)
    elif conversation.ending is Ending.CONTEXT:
        typer.echo(
            "note: the answer ends here because the conversation fills the model's context; /reset begins a new one",
            err=True,
        )
