"""`tinyllama compare`: differences of models, and whether chance explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyllama.cli.app import AsJson, app, print_json
from tinyllama.paths import expand_path


@app.command(
    short_help="Compare models on the questions that all of them answered.",
    epilog="Example: tinyllama compare runs/mini/v1.1 runs/mini/math_code",
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="What evaluate takes, or its records; a family stands for all its models.",
        ),
    ],
    *,
    records: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="Records of single models, made by evaluate.")
    ] = Path("evaluations"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", parser=expand_path, help="Write the comparison there as Markdown, JSON and an HTML page."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the first model with each other one on what evaluate recorded: paired bootstrap, Holm's correction."""
    from tinyllama.cli.tables import output, print_comparison
    from tinyllama.comparison.compare import compare as compare_models
    from tinyllama.comparison.documents import FILES, write_comparison

    comparison = compare_models(models, out=records)
    if out is not None:
        write_comparison(out, comparison)
    if as_json:
        print_json(comparison.to_json())
        return
    print_comparison(output(), comparison)
    if out is not None:
        for name in FILES:
            typer.echo(out / name)
