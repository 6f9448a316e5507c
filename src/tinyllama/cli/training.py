"""The commands `train`, `report` and `reproduce`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import (
    AsJson,
    Device,
    EvaluationData,
    Overrides,
    RecipeName,
    RefreshCorpora,
    RunFolder,
    VariantName,
    app,
    on_device,
    open_family,
    parse_steps,
    print_json,
    say_next,
)
from tinyllama.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.family import Family

_MOST_PROFILED = 50
"""Steps in a profile; each takes megabytes."""


@app.command(
    short_help="Train a family: its base, then each variant; resumes.",
    epilog="Example: tinyllama train mini --variant math_code",
)
def train(
    recipe: RecipeName,
    *,
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
    device: Device = "auto",
    refresh_corpora: RefreshCorpora = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="N[..M]",
            help="Write a trace and a table of where the time of these steps goes, counted from 1.",
        ),
    ] = None,
) -> None:
    """Train the base once, then each variant and branch from its fork. If interrupted, run the command again to resume.

    On several GPUs or nodes: torchrun --nproc-per-node 4 -m -- tinyllama train RECIPE
    """
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.family import Family
    from tinyllama.recipe import load_recipe
    from tinyllama.train.ranks import join_ranks  # imports torch

    steps = None if profile is None else _steps_to_profile(profile)
    loaded = load_recipe(recipe, on_device(overrides, device))
    with join_ranks(loaded.hardware.collective_timeout, loaded.hardware.device) as ranks:
        family = Family(loaded, run, progress=TerminalProgress(quiet=not ranks.first), ranks=ranks)
        models = [] if variant is None else [variant]
        trained = family.train(*models, refresh_corpora=refresh_corpora, profile=steps)
        if ranks.first:
            for model in trained:
                typer.echo(family.layout.model(model))
            say_next("report", recipe, overrides=overrides, run=run)


def _steps_to_profile(text: str) -> range:
    steps = parse_steps("--profile", text)
    if not steps or len(steps) > _MOST_PROFILED:
        raise UserError(f"--profile {text}: name 1 to {_MOST_PROFILED} steps, such as 10..12, since a trace is large")
    return steps


@app.command(
    short_help="Write a family's report: scores, curves, shares, samples.",
    epilog="Example: tinyllama report mini",
)
def report(
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    data: EvaluationData = None,
    device: Device = "auto",
) -> None:
    """Evaluate and export the trained models, and write summary.json and report.html."""
    family = open_family(recipe, on_device(overrides, device), run)
    family.report(data)
    typer.echo(family.layout.report)
    _say_studio(family)


@app.command(
    short_help="Do everything: prepare, train, evaluate, export, report.",
    epilog="Example: tinyllama reproduce mini",
)
def reproduce(
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    data: EvaluationData = None,
    device: Device = "auto",
    refresh_corpora: RefreshCorpora = False,
    as_json: AsJson = False,
) -> None:
    """Prepare, train, evaluate, export and report, in this order. Skips steps whose outputs are valid."""
    family = open_family(recipe, on_device(overrides, device), run)
    summary = family.reproduce(data, refresh_corpora=refresh_corpora)
    if as_json:
        print_json(summary.to_json())
    else:
        print_scores(family, summary.bits_per_byte, summary.bits_per_byte_by_source, summary.tasks)
        for folder in summary.exports.values():
            typer.echo(family.folder / folder)
        typer.echo(family.layout.report)
        for folder in [*summary.exports.values()][-1:]:  # the base has seen the least
            say_generate(family.folder / folder, family.recipe.evaluation.prompts)
        _say_studio(family)
    family.prepare().require_all()


def say_generate(export: Path, prompts: Iterable[str] = ()) -> None:
    """Say how an export continues a text: the first of a recipe's prompts, if there are some."""
    say_next("generate", str(export), next(iter(prompts), "The"))


def _say_studio(family: Family) -> None:
    """Say how to look at a family on a page, where the page's packages are installed."""
    if find_spec("starlette") and find_spec("uvicorn"):
        say_next("studio", str(family.folder))


def print_scores(
    family: Family,
    bits: dict[str, dict[str, float]],
    by_source: dict[str, dict[str, dict[str, float]]],
    tasks: dict[str, TaskScores],
) -> None:
    """Print a family's bits per byte, also by source where corpora have several, and its task scores."""
    from tinyllama.cli.tables import output, print_matrix, print_sources, print_tasks
    from tinyllama.evaluation.published import PARAMETERS

    console = output()
    print_matrix(console, "held-out bits per byte (lower is better)", bits, list(family.prepare().corpora))
    print_sources(console, by_source)
    published = family.recipe.model.parameters == PARAMETERS
    print_tasks(console, tasks, published=published, told=family.notes)
