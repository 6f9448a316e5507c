"""`tinyllama evaluate`: whole families as `reproduce` measures them, and single models of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli import app as commands
from tinyllama.cli.app import AsJson, EvaluationData, Overrides, Precision, RunFolder, app

if TYPE_CHECKING:
    from tinyllama.family.evaluate_model import Evaluated


@app.command(epilog="Example: tinyllama evaluate runs/mini/exports/v1.1 --tasks commonsense --data data/eval")
def evaluate(  # noqa: PLR0913  # a command's options
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help="Recipe (its whole family), run, checkpoint, model folder, GGUF file or hub id."
        ),
    ],
    *,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Of single models, by commas: groups (commonsense, code, math, arithmetic, chinese, all) or tasks.",
        ),
    ] = "commonsense",
    data: EvaluationData = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions of each task or subject.")] = None,
    batch: Annotated[str, typer.Option(help="Rows of a forward pass, or auto.")] = "auto",
    dtype: Annotated[
        Precision, typer.Option(help="Of a single model; a bf16 record states how it differs from fp32's.")
    ] = Precision.FP32,
    text: Annotated[
        list[Path] | None, typer.Option(help="Bits per byte of a prepared corpus's held-out part, or of a text file.")
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Run programs that the model writes, in a sandbox.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Programs for each question of humaneval; 10 give pass@10.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the records of single models.")] = Path("evaluations"),
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks and text; what was answered already is kept, so that a stopped command goes on."""
    from tinyllama.cli.progress import TerminalProgress  # noqa: PLC0415
    from tinyllama.evaluation.record import record_to_json
    from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model

    families = [name for name in models if commands.is_recipe(name)]
    found: dict[str, Any] = {
        name: _evaluate_family(name, overrides, run, data, print_it=not as_json) for name in families
    }
    asked = EvaluateRequest(
        tasks=tasks.split(","), data=data or Path("data/eval"), limit=limit, rows=_rows(batch), dtype=dtype.value,
        texts=text or [], run_code=run_code, samples=samples, out=out,
    )  # fmt: skip
    progress = TerminalProgress()
    singles = {name: evaluate_model(name, asked, progress=progress) for name in models if name not in families}
    if as_json:
        told = {
            name: record_to_json(evaluated.record) | {"folder": str(evaluated.folder)}
            for name, evaluated in singles.items()
        }
        commands.print_json(found[families[0]] if len(models) == len(families) == 1 else found | told)
    elif singles:
        _print(singles, asked.texts)


def _rows(batch: str) -> int | None:
    from tinyllama.errors import EvaluationError  # noqa: PLC0415

    if batch == "auto":
        return None
    if not batch.isdigit() or int(batch) < 1:
        raise EvaluationError(f"--batch is {batch!r}; give a number of rows or auto")
    return int(batch)


def _evaluate_family(
    name: str, overrides: list[str] | None, run: Path | None, data: Path | None, *, print_it: bool
) -> dict[str, Any]:
    from tinyllama.family.results import bits_per_byte_of, evaluate_family, finished

    family = commands.open_family(name, overrides, run)
    records = evaluate_family(family, finished(family), commands.data_folder(family.recipe, data))
    scores = {
        "bits_per_byte": {model: bits_per_byte_of(record) for model, record in records.items()},
        "tasks": {model: record.scores.to_json() for model, record in records.items()},
    }
    if print_it:
        commands.print_scores(family, scores)
    return scores


def _print(found: dict[str, Evaluated], texts: list[Path]) -> None:
    from tinyllama.cli.tables import output, print_matrix, print_tasks
    from tinyllama.evaluation.record import EXACT
    from tinyllama.evaluation.record_tables import agreement_with_fp32

    console, records = output(), {name: evaluated.record for name, evaluated in found.items()}
    bits = {name: record.bits_per_byte.values for name, record in records.items() if record.bits_per_byte}
    if bits:
        print_matrix(console, bits, [str(path) for path in texts])
    print_tasks(console, {name: record.scores.to_json() for name, record in records.items()})
    for name, record in records.items():
        if record.conditions and record.conditions.dtype != EXACT:
            console.print(f"{name}: {agreement_with_fp32(record)}", markup=False, soft_wrap=True)
    for evaluated in found.values():
        typer.echo(evaluated.folder)
