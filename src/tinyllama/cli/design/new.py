"""The command `new`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, Device, app, print_json, real, whole
from tinyllama.cli.design.options import (
    MOST_TOKENS,
    Gpus,
    Hardware,
    MachineOptions,
    Nodes,
    OverTraining,
    Shapes,
    choose_machine,
)
from tinyllama.cli.design.size import print_sizes

if TYPE_CHECKING:
    from tinyllama.design.new import Asked


@app.command(
    short_help="Write a recipe for your text and your hours.",
    epilog="Example: tinyllama new speeches --text builtin:sotu --domain code=src --hours 1",
)
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the family; NAME.yaml is written here.")],
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A file, folder, glob or URL of text, or builtin:NAME. May be repeated."),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="A variant that adds this text. May be repeated, also for one NAME."),
    ] = None,
    hours: Annotated[float | None, real("Hours for everything, from text to report.", least=0.001, most=1e6)] = None,
    tokens: Annotated[int | None, whole("Tokens of each model, instead of --hours.", most=MOST_TOKENS)] = None,
    epochs: Annotated[int, whole("Times that a text is read at most.", most=1000)] = 4,
    over_training: OverTraining = 1.0,
    shapes: Shapes = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Tokenizer: own or llama2 (default: by bytes per token)."),
    ] = None,
    text_field: Annotated[
        str, typer.Option(metavar="FIELD", help="Field of JSON, Parquet and Arrow documents that contains the text.")
    ] = "text",
    hardware: Hardware = "here",
    gpus: Gpus = 1,
    nodes: Nodes = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Look at a text, measure this machine, and write a commented recipe: each number with its rule and source.

    On a terminal, it asks for what is not given. It never overwrites a file.
    """
    from tinyllama.design.compose import design
    from tinyllama.design.new import Asked, wishes_of, write_recipe
    from tinyllama.design.writing import describe_bound, describe_text, describe_tokenizer

    asked = Asked(name, text or [], domain or [], hours, tokens, epochs, over_training, shapes, tokenizer, text_field)
    if sys.stdin.isatty() and sys.stderr.isatty():
        asked = _ask(asked)
    wishes = wishes_of(asked)
    machine = choose_machine(ctx, MachineOptions(hardware, gpus, nodes, device), asked.hours, asked.tokens)
    found = design(wishes, machine, Path(), lambda line: typer.echo(line, err=True))
    path = write_recipe(found, Path())
    if as_json:
        print_json({
            "recipe": str(path),
            "machine": machine.name,
            "overhead_seconds": found.overhead,
            "is_bounded_by_text": found.is_bounded_by_text,
            "size": found.size.as_dict(),
        })  # fmt: skip
        return
    for corpus_name, corpus in found.corpora.items():
        typer.echo(describe_text(corpus.survey, found.tokenizer.bytes_per_token[corpus_name]))
    if any(corpus.survey.languages is None for corpus in found.corpora.values()):
        from tinyllama.installation import install_hint

        typer.echo(f"to see the languages, too, install py3langid: {install_hint('quality')}", err=True)
    typer.echo(f"tokenizer: {describe_tokenizer(found.tokenizer)}")
    print_sizes([found.size], machine)
    if found.is_bounded_by_text:
        typer.echo(describe_bound(found))
    training = _training(path, hardware, gpus, nodes)
    typer.echo(f"wrote {path}; next: tinyllama plan {path} --check, then {training}tinyllama reproduce {path}")


def _training(path: Path, hardware: str, gpus: int, nodes: int | None) -> str:
    """How several GPUs train before `reproduce` does the rest; empty for one."""
    if gpus == 1:
        return ""
    from tinyllama.plan.cards import find_gpu

    if (nodes or -(-gpus // find_gpu(hardware).per_node)) > 1:
        return "train on all nodes (docs/scale.md), then "
    return f"torchrun --nproc-per-node {gpus} -m -- tinyllama train {path}, then "


def _ask(asked: Asked) -> Asked:
    """Ask on the terminal for what is not given."""
    if not asked.text:
        asked = replace(asked, text=[typer.prompt("Text (file, folder, glob or URL)", err=True)])
        question = "A domain with a variant of its own (NAME=TEXT, empty for no more)"
        while line := typer.prompt(question, default="", show_default=False, err=True):
            asked = replace(asked, domain=[*asked.domain, line])
    if asked.hours is None and asked.tokens is None:
        asked = replace(asked, hours=typer.prompt("Hours for everything", default=1.0, err=True))
    return asked
