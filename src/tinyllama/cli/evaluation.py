"""The command `evaluate`: whole families as `reproduce` measures them, and single models of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli.app import (
    AsJson,
    EvaluationData,
    Overrides,
    Precision,
    RunFolder,
    app,
    is_recipe,
    open_family,
    print_json,
)
from tinyllama.cli.training import print_scores

if TYPE_CHECKING:
    from tinyllama.family.evaluate_model import EvaluateRequest


@app.command(
    short_help="Score models on tasks and text; resumes.",
    epilog="Example: tinyllama evaluate runs/mini/exports/v1.1 --tasks commonsense --data data/eval",
)
def evaluate(
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
        Precision, typer.Option(help="Number format of single models; a bf16 record compares itself with fp32's.")
    ] = Precision.FP32,
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Measure bits per byte of a text file, or of a corpus's held-out part."),
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Run programs that the model writes, in a sandbox (humaneval).")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Programs per question of humaneval; 10 give pass@10.")
    ] = 1,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the records of single models.")] = Path(
        "evaluations"
    ),
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks and text. Answers are kept, so that a command that was stopped resumes."""
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model  # imports torch

    families = [name for name in models if is_recipe(name)]
    found: dict[str, Any] = {
        name: _evaluate_family(name, overrides, run, data, print_it=not as_json) for name in families
    }
    request = EvaluateRequest(
        tasks=tasks.split(","),
        data=data or Path("data/eval"),
        limit=limit,
        rows=_rows(batch),
        dtype=precision.value,
        texts=text or [],
        run_code=run_code,
        samples=samples,
        out=out,
    )
    progress = TerminalProgress()
    singles = {name: evaluate_model(name, request, progress=progress) for name in models if name not in families}
    if as_json:
        print_json(found[families[0]] if len(models) == len(families) == 1 else found | singles)
    elif singles:
        _print(singles, request)


def _rows(batch: str) -> int | None:
    from tinyllama.errors import EvaluationError

    if batch == "auto":
        return None
    if not batch.isdigit() or int(batch) < 1:
        raise EvaluationError(f"--batch is {batch!r}; give a number of rows or auto")
    return int(batch)


def _evaluate_family(
    name: str, overrides: list[str] | None, run: Path | None, data: Path | None, *, print_it: bool
) -> dict[str, Any]:
    family = open_family(name, overrides, run)
    records = family.evaluate(data)
    scores = {key: {model: record[key] for model, record in records.items()} for key in ("bits_per_byte", "tasks")}
    if print_it:
        print_scores(family, scores)
    return scores


def _print(records: dict[str, dict[str, Any]], request: EvaluateRequest) -> None:
    from tinyllama.cli.tables import output, print_matrix, print_tasks
    from tinyllama.evaluation.record import against_fp32

    console = output()
    bits = {name: record["bits_per_byte"]["values"] for name, record in records.items() if record["bits_per_byte"]}
    if bits:
        print_matrix(console, bits, [str(path) for path in request.texts])
    print_tasks(console, {name: record["tasks"] for name, record in records.items()})
    for name, record in records.items():
        if record["dtype"] != "fp32":
            console.print(f"{name}: {against_fp32(record)}", markup=False, soft_wrap=True)
    for record in records.values():
        typer.echo(record["folder"])
