"""`tinyllama audit` and `tinyllama inspect`: whether a run followed its plan, and what its models saw when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, app, as_text, parse_steps, print_json, refuse_options, whole
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tinyllama.fidelity import Occurrence, OpenRun, SeenRow
    from tinyllama.fidelity.table import Result
    from tinyllama.files import Json

TrainedFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", parser=expand_path, help="A family's folder, or that of one of its models: RUN/MODEL."
    ),
]


@app.command(
    short_help="Compare what a run recorded with its plan.",
    epilog="Example: tinyllama audit runs/mini",
)
def audit(
    folder: TrainedFolder,
    *,
    sample: Annotated[
        int | None, whole("Read the rows of N random steps of each model again (default: of all steps).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare metrics, rows, corpora and checkpoints with the plan, step by step. Exit code 1 if something differs."""
    from tinyllama.errors import TinyLlamaError
    from tinyllama.fidelity import audit, open_runs

    runs = open_runs(folder)
    trained = [run for run in runs if len(runs) == 1 or run.layout.model(run.model).is_dir()]
    results = {run.model: audit(run, sample, _say()) for run in trained}
    failed = [(found.step or 0, model, found) for model, all_found in results.items() for found in all_found]
    failed = sorted(entry for entry in failed if entry[2].result == "FAIL")
    if as_json:
        models: Json = {model: [found._asdict() for found in all_found] for model, all_found in results.items()}
        print_json({"passed": not failed, "models": models})
    else:
        for model, all_found in results.items():
            typer.echo(model)
            for found in all_found:
                at = "" if found.step is None else f"step {found.step}: "
                typer.echo(f"  {found.result:11} {found.check}: {at}{found.detail}")
    if failed:
        step, model, found = failed[0]
        raise TinyLlamaError(f"{folder}: {model} differs from its plan first at step {step}: {found.check}")


@app.command(
    short_help="Show what a model saw at a step, or when it saw a text.",
    epilog="Example: tinyllama inspect runs/mini/base --step 100..102 --row 0",
)
def inspect(
    ctx: typer.Context,
    folder: TrainedFolder,
    *,
    step: Annotated[
        str | None, typer.Option(metavar="N[..M]", help="Show the rows of these steps, counted from 1.")
    ] = None,
    rank: Annotated[
        int | None, whole("Only the rows of this rank, as it trained (with --step).", least=0, metavar="R")
    ] = None,
    row: Annotated[
        int | None, whole("Only this row of each batch, from 0 (with --step).", least=0, metavar="K")
    ] = None,
    find: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Show at which steps this text was or will be seen; may be repeated."),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(metavar="ORIGIN", help="Show at which steps the documents of this origin were or will be seen."),
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Look only at held-out text, which is never trained on.")
    ] = False,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=expand_path, help="Write the result to a Parquet file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the rows of steps as text, with documents and origins; or at which steps a text is seen, by which model."""
    from tinyllama.corpus.manifest import HELD_OUT, SPLITS
    from tinyllama.errors import UserError
    from tinyllama.fidelity import Occurrence, SeenRow, find_document, find_texts, open_runs

    if sum(map(bool, (step, find, document))) != 1:
        raise UserError("give one of --step N[..M], --find TEXT and --document ORIGIN")
    runs = open_runs(folder)
    if step is not None:
        refuse_options(ctx, {"held_out"}, "with --step: no step sees held-out text")
        _show(SeenRow, _rows(runs, step, rank, row), _print_row, parquet, as_json=as_json)
        return
    refuse_options(ctx, {"rank", "row"}, "without --step")
    splits = (HELD_OUT,) if held_out else SPLITS
    found: Iterable[Occurrence] = (
        find_texts(runs, list(map(as_text, find or ())), splits, _say())
        if document is None
        else find_document(runs, as_text(document), splits)
    )
    _show(Occurrence, found, _print_occurrence, parquet, as_json=as_json)


def _say() -> Callable[[str], None]:
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.family.progress import at_intervals

    return at_intervals(TerminalProgress().say)


def _rows(runs: Sequence[OpenRun], steps: str, rank: int | None, position: int | None) -> Iterable[SeenRow]:
    from tinyllama.errors import UserError
    from tinyllama.fidelity import rows_of_steps

    named = parse_steps("--step", steps)
    span = named.start, named.stop - 1
    if len(runs) > 1 and span[1] > runs[0].plan.steps:
        raise UserError(
            f"--step {steps}: the base has {runs[0].plan.steps} steps, and the models differ after them; name one of "
            f"them, such as {runs[1].layout.model(runs[1].model)}"
        )
    return rows_of_steps(runs[0], *span, rank, position)


def _show(
    kind: type[Result],
    results: Iterable[Result],
    show: Callable[[Result], None],
    parquet: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print results as they come, or write them to a file."""
    from dataclasses import asdict

    from tinyllama.fidelity.table import write_table

    if parquet is not None:
        write_table(parquet, kind, results)
    elif as_json:
        print_json(list(map(asdict, results)))
    else:
        empty = True
        for result in results:
            show(result)
            empty = False
        if empty:
            typer.echo("nothing was found", err=True)


def _print_row(row: SeenRow) -> None:
    note = {"made": "", "skipped": " (update skipped)", "later": " (not trained yet)"}[row.update]
    typer.echo(f"== step {row.step}{note}, row {row.position}: {row.corpus}:{row.row}")
    for piece in row.pieces:
        end = piece.start + piece.tokens
        typer.echo(f"-- document {piece.document}, {piece.origin} (part {piece.part}), tokens {piece.start} to {end}")
        typer.echo(piece.text)


def _print_occurrence(found: Occurrence) -> None:
    where = f"{found.origin}, {found.corpus}"
    if found.row is None:
        typer.echo(f"{where}: held out, never seen")
    else:
        typer.echo(f"{where} row {found.row}: {'; '.join(_visits(found, model) for model in found.steps)}")


def _visits(found: Occurrence, model: str) -> str:
    """When a model saw a row: `base saw it at 1, was fed it at 5 (update skipped) and will see it at 9`."""
    from tinyllama.text import listing

    skipped, later = found.skipped.get(model, []), found.later.get(model, [])
    seen = [step for step in found.steps[model] if step not in {*skipped, *later}]
    notes = "saw it at {}", "was fed it at {} (update skipped)", "will see it at {}"
    parts = [
        note.format(", ".join(map(str, steps)))
        for note, steps in zip(notes, (seen, skipped, later), strict=True)
        if steps
    ]
    return f"{model} {listing(parts) or 'never sees it'}"
