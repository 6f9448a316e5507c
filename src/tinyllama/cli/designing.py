"""Commands that design: new, size."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, Device, app, print_json, real, refuse_options, whole

if TYPE_CHECKING:
    from tinyllama.design.machines import Machine
    from tinyllama.design.new import Asked
    from tinyllama.design.sizing import Size

_MOST_TOKENS = 10**15
_FAR = 20
"""Times fewer parameters or tokens than in a fit, beyond which it says nothing."""
_COLUMNS = (
    *("", "layers x width", "parameters", "ids", "tokens", "per parameter"),
    *("batch", "peak LR", "tokens/s", "hours", "expected loss"),
)
_NEAR = 4
"""Rows above and below the recommended one."""

Hardware = Annotated[
    str, typer.Option(metavar="GPU", help="What trains: `here` measures this machine; a GPU by name is predicted.")
]
Gpus = Annotated[int, whole("Number of GPUs, with --hardware.", most=1_000_000)]
Nodes = Annotated[int | None, whole("Number of nodes (default: by the usual number of GPUs in one).")]
OverTraining = Annotated[
    float,
    real("Tokens per parameter, as a multiple of the compute-optimal 20: a better model of the same size.", least=0.01),
]
Shapes = Annotated[
    str | None, typer.Option(metavar="FAMILY", help="Proportions: smollm (deep) or tinyllama (wide); default: by size.")
]


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
    tokens: Annotated[int | None, whole("Tokens of each model, instead of --hours.", most=_MOST_TOKENS)] = None,
    epochs: Annotated[int, whole("Times that a text is read at most.", most=1000)] = 4,
    over_training: OverTraining = 1.0,
    shapes: Shapes = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="KIND", help="own or llama2 (default: by measured bytes per token).")
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
    from tinyllama.design.writing import describe_text, describe_tokenizer

    asked = Asked(name, text or [], domain or [], hours, tokens, epochs, over_training, shapes, tokenizer, text_field)
    if sys.stdin.isatty() and sys.stderr.isatty():
        asked = _ask(asked)
    wishes = wishes_of(asked)
    machine = _machine(ctx, hardware, gpus, nodes, device, asked.hours)
    found = design(wishes, machine, Path(), lambda line: typer.echo(line, err=True))
    path = write_recipe(found, Path())
    if as_json:
        print_json({
            "recipe": str(path),
            "machine": machine.name,
            "overhead_seconds": found.overhead,
            "size": found.size.as_dict(),
        })  # fmt: skip
        return
    for corpus_name, corpus in found.corpora.items():
        typer.echo(describe_text(corpus.survey, found.tokenizer.bytes_per_token[corpus_name]))
    typer.echo(f"tokenizer: {describe_tokenizer(found.tokenizer)}")
    _print_sizes([found.size], machine)
    typer.echo(f"wrote {path}; next: tinyllama plan {path} --check, then tinyllama reproduce {path}")


@app.command(
    short_help="Show which models fit in your hours and memory.",
    epilog="Example: tinyllama size --hours 12 --hardware rtx4090",
)
def size(
    ctx: typer.Context,
    *,
    hours: Annotated[float | None, real("Hours of training.", least=0.001, most=1e6)] = None,
    tokens: Annotated[int | None, whole("Tokens, instead of --hours.", most=_MOST_TOKENS)] = None,
    vocab_size: Annotated[int | None, whole("Number of ids (default: what suits each size).", least=512)] = None,
    context: Annotated[int | None, whole("Tokens of a sequence (default: what suits each batch).", least=16)] = None,
    over_training: OverTraining = 1.0,
    shapes: Shapes = None,
    hardware: Hardware = "here",
    gpus: Gpus = 1,
    nodes: Nodes = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """List shapes with the tokens that they are trained on in the time, and mark the recommended one.

    The expected loss is that of the text and tokenizer of Hoffmann et al. 2022; it serves to compare rows.
    """
    from tinyllama.design.new import budget_of
    from tinyllama.design.sizing import sizes

    budget = replace(budget_of(hours, tokens, over_training, shapes), vocab_size=vocab_size, context=context)
    machine = _machine(ctx, hardware, gpus, nodes, device, hours)
    found = sizes(machine, budget)
    if as_json:
        print_json({"machine": machine.name, "sizes": [each.as_dict() for each in found]})
        return
    _print_sizes(found, machine)


def _machine(
    ctx: typer.Context, hardware: str, gpus: int, nodes: int | None, device: str, hours: float | None
) -> Machine:
    """This machine, or GPUs by name."""
    from tinyllama.design.machines import COMPILED_FROM, HERE, MeasuredMachine, PredictedMachine

    if hardware != HERE:
        refuse_options(ctx, {"device"}, "with --hardware, which is not this machine")
        return PredictedMachine(hardware, gpus, nodes)
    refuse_options(ctx, {"gpus", "nodes"}, "without --hardware; name a GPU, e.g. --hardware a100-40g")
    from functools import partial

    from tinyllama.model.devices import best_precision, choose_device, describe_device, memory_of
    from tinyllama.train.machine import measure_peak_flops
    from tinyllama.train.speed import measure_speed

    found = choose_device(device)
    flops = measure_peak_flops(best_precision(found), found)
    measure = partial(measure_speed, device=found)
    compiles = hours is None or hours >= COMPILED_FROM
    return MeasuredMachine(f"this machine, {describe_device(found)}", flops, memory_of(found), measure, compiles)


def _ask(asked: Asked) -> Asked:
    """Ask on the terminal for what is not given."""
    if not asked.text:
        asked = replace(asked, text=[typer.prompt("Text (file, folder, glob or URL)", err=True)])
        line = typer.prompt("A domain of its own (NAME=TEXT, empty for none)", default="", show_default=False, err=True)
        asked = replace(asked, domain=[*asked.domain, line] if line else asked.domain)
    if asked.hours is None and asked.tokens is None:
        asked = replace(asked, hours=typer.prompt("Hours for everything", default=1.0, err=True))
    return asked


def _print_sizes(found: list[Size], machine: Machine) -> None:
    """Print the rows around the recommended one."""
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.design.rules import CHINCHILLA, peak_learning_rate
    from tinyllama.recipe.quantities import format_count
    from tinyllama.text import MISSING

    best = next(index for index, each in enumerate(found) if each.is_recommended)
    table = Table(title=machine.name, title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for index, each in enumerate(found[max(0, best - _NEAR) : best + _NEAR + 1], max(0, best - _NEAR)):
        speed = "does not fit" if each.tokens_per_second is None else f"{each.tokens_per_second:,.0f}"
        table.add_row(
            "→" if index == best else "",
            f"{each.shape.layers} x {each.shape.width}",
            format_count(each.parameters, 3),
            f"{each.shape.vocab_size:,}",
            format_count(each.tokens, 3),
            f"{each.tokens_per_parameter:.3g}",
            f"{each.sequences} x {each.shape.context}",
            f"{peak_learning_rate(each.flops):.2e}" if each.tokens else MISSING,
            speed + ("" if each.is_measured else " (estimate)"),
            MISSING if each.seconds is None else f"{each.seconds / 3600:.3g}",
            _loss(each),
        )
    console = output()
    console.print(table)
    console.print(
        f"expected loss: nats a token of the text of {CHINCHILLA.name}, by their fit; ~ is beyond it (it has models "
        f"from {format_count(CHINCHILLA.smallest)} parameters and {format_count(CHINCHILLA.fewest)} tokens on), "
        f"{MISSING} far beyond",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _loss(size: Size) -> str:
    """The expected loss, if the fit is not far away."""
    from tinyllama.design.rules import CHINCHILLA
    from tinyllama.text import MISSING

    if size.is_fitted:
        return f"{size.expected_loss:.2f}"
    is_near = CHINCHILLA.covers(_FAR * size.parameters, _FAR * size.tokens)
    return f"~{size.expected_loss:.2f}" if is_near else MISSING
