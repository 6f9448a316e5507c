"""The command `evaluate`: whole families, as in `reproduce`, and single models of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tinyllama.cli.app import (
    AsJson,
    Device,
    EvaluationData,
    Overrides,
    Precision,
    RunFolder,
    app,
    is_recipe,
    on_device,
    open_family,
    print_json,
    refuse_options,
)
from tinyllama.cli.training import print_scores

if TYPE_CHECKING:
    from tinyllama.family.evaluate_model import Evaluated
    from tinyllama.files import Json

_OF_SINGLE_MODELS: Final = {"tasks", "limit", "batch", "precision", "text", "run_code", "samples", "out"}
_OF_RECIPES: Final = {"overrides", "run"}


@app.command(
    short_help="Score models on tasks and text; resumes.",
    epilog="Example: tinyllama evaluate runs/mini/exports/v1.1 --tasks commonsense --data data/eval",
)
def evaluate(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A recipe (a whole family), a model's folder or checkpoint, a Hugging Face folder or hub id, or GGUF.",
        ),
    ],
    *,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Tasks and groups (commonsense, code, math, arithmetic, chinese, all), separated by commas.",
        ),
    ] = "commonsense",
    data: EvaluationData = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum number of questions per task or subject.")
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N|auto", help="Rows per forward pass.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Number format of single models; a bf16 record includes a comparison with fp32.")
    ] = Precision.FP32,
    device: Device = "auto",
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Measure bits per byte of a text file, or of a corpus's held-out part."),
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Run programs that the model generates, in a sandbox (humaneval).")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Programs per humaneval question; 10 gives pass@10.")
    ] = 1,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the records of single models.")] = Path(
        "evaluations"
    ),
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks and text. Answers are saved; if interrupted, run the command again to resume.

    A recipe states its own tasks, in `evaluation`; only --set, --run, --data and --json apply to recipes.
    """
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.evaluation.record import record_to_json
    from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model

    families = [name for name in models if is_recipe(name)]
    if not families:
        refuse_options(ctx, _OF_RECIPES, "with single models, only with recipes")
    if len(families) == len(models):
        refuse_options(
            ctx,
            _OF_SINGLE_MODELS,
            "with recipes, only with single models, e.g. runs/nano/base; a recipe's tasks are evaluation.tasks, e.g. "
            "--set evaluation.tasks=[arc_easy]",
        )
    request = EvaluateRequest(
        tasks=tasks.split(","),
        data=data or Path("data/eval"),
        limit=limit,
        rows=_rows(batch),
        dtype=precision.value,
        device=device,
        texts=text or [],
        run_code=run_code,
        samples=samples,
        out=out,
    )
    found: dict[str, Json] = {
        name: _evaluate_family(name, on_device(overrides, device), run, data, print_it=not as_json) for name in families
    }
    progress = TerminalProgress()
    singles = {name: evaluate_model(name, request, progress=progress) for name in models if name not in families}
    if as_json:
        records = {
            name: record_to_json(evaluated.record) | {"folder": str(evaluated.folder)}
            for name, evaluated in singles.items()
        }
        print_json(found[families[0]] if len(models) == len(families) == 1 else found | records)
    elif singles:
        _print(singles, request.texts)


def _rows(batch: str) -> int | None:
    from tinyllama.errors import EvaluationError

    if batch == "auto":
        return None
    if not batch.isdigit() or int(batch) < 1:
        raise EvaluationError(f"--batch is {batch!r}; give a number of rows or auto")
    return int(batch)


def _evaluate_family(
    name: str, overrides: list[str] | None, run: Path | None, data: Path | None, *, print_it: bool
) -> dict[str, Json]:
    family = open_family(name, overrides, run)
    records = family.evaluate(data)
    bits = {model: record.bits_by_text for model, record in records.items()}
    if print_it:
        print_scores(family, bits, {model: record.scores for model, record in records.items()})
    return {
        "bits_per_byte": bits,
        "tasks": {model: record.scores.to_json() for model, record in records.items()},
    }


def _print(found: dict[str, Evaluated], texts: list[Path]) -> None:
    from tinyllama.cli.tables import output, print_matrix, print_tasks
    from tinyllama.evaluation.record import EXACT
    from tinyllama.evaluation.record_tables import agreement_with_fp32

    console, records = output(), {name: evaluated.record for name, evaluated in found.items()}
    bits = {name: record.bits_per_byte.values for name, record in records.items() if record.bits_per_byte}
    if bits:
        print_matrix(console, bits, [str(path) for path in texts])
    print_tasks(console, {name: record.scores for name, record in records.items()})
    for name, record in records.items():
        if record.conditions and record.conditions.dtype != EXACT:
            console.print(f"{name}: {agreement_with_fp32(record)}", markup=False, soft_wrap=True)
    for evaluated in found.values():
        typer.echo(evaluated.folder)
