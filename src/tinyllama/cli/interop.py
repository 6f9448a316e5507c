"""Commands that bring models in and out: import, export, publish."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tinyllama.cli.app import (
    AsJson,
    EvaluationData,
    Overrides,
    RunFolder,
    app,
    data_folder,
    is_recipe,
    open_family,
    print_json,
)


class Format(StrEnum):
    """What an export is for."""

    hf = "hf"
    gguf = "gguf"


class Kind(StrEnum):
    """How a GGUF file stores matrices."""

    f32 = "F32"
    f16 = "F16"
    bf16 = "BF16"
    q8_0 = "Q8_0"


@app.command("import", epilog="Example: tinyllama import TinyLlama/TinyLlama_v1.1 --recipe continue")
def import_model(  # a command's options
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A Hugging Face folder or hub id, a GGUF file, or a checkpoint of a run (default: the recipe's).",
        ),
    ] = None,
    *,
    recipe: Annotated[str, typer.Option("--recipe", help="The recipe that goes on from it; it has a `start` section.")],
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make any Llama model the checkpoint that a recipe starts from, checked against transformers."""
    from tinyllama.recipe import load_recipe  # noqa: PLC0415  # imports pydantic
    from tinyllama.train.import_start import stated_start  # noqa: PLC0415  # as above

    stated_start(load_recipe(recipe, overrides or ()))
    named = [] if model is None else [f"start.model={model}"]
    family = open_family(recipe, [*(overrides or []), *named], run)
    checkpoint, result = family.import_start()
    if as_json:
        print_json(
            {
                "checkpoint": str(checkpoint.folder),
                "tokens": checkpoint.state.tokens,
                "sha256": checkpoint.state.fingerprint_inputs.start_weights,
                "largest_difference": None if result is None else result.largest_difference,
            }
        )
    else:
        typer.echo(checkpoint.folder)


@app.command(epilog="Example: tinyllama export mini --format gguf --type Q8_0")
def export(  # noqa: PLR0913  # a command's options
    name: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="Recipe (its whole family); for GGUF also a single model: a folder, checkpoint, GGUF file or hub id.",
        ),
    ],
    *,
    form: Annotated[
        Format, typer.Option("--format", help="For transformers and the like, or for llama.cpp.")
    ] = Format.hf,
    kind: Annotated[Kind, typer.Option("--type", help="Of a GGUF file's matrices.", case_sensitive=False)] = Kind.f16,
    overrides: Overrides = None,
    run: RunFolder = None,
    data: EvaluationData = None,
) -> None:
    """Write every trained model of a family as a Hugging Face folder, or as GGUF with an Ollama Modelfile.

    A single model becomes GGUF in the folder <its name>-<type>-gguf: beside it, or in its family's exports.
    """
    if not is_recipe(name):
        typer.echo(_export_single(name, form, kind))
        return
    from tinyllama.family.results import evaluate_family, export_family, export_family_gguf, finished  # noqa: PLC0415

    family = open_family(name, overrides, run)
    checkpoints = finished(family)
    if form == Format.gguf:
        folders: dict[str, Path] = export_family_gguf(family, checkpoints, kind)
    else:
        records = evaluate_family(family, checkpoints, data_folder(family.recipe, data))
        folders = export_family(family, checkpoints, records)
    for folder in folders.values():
        typer.echo(folder)


def _export_single(name: str, form: Format, kind: Kind) -> Path:
    from tinyllama.errors import UserError
    from tinyllama.export import convert_to_gguf
    from tinyllama.formats.model_source import CheckpointModel
    from tinyllama.formats.open import open_model
    from tinyllama.recipe import shipped_recipes

    if form == Format.hf:
        recipes = ", ".join(shipped_recipes())
        raise UserError(f"{name} is no recipe ({recipes} or a YAML file); a single model needs --format gguf")
    source = open_model(name)
    if isinstance(source, CheckpointModel):
        folder = source.family.export(f"{source.model}-{kind}-gguf")
    else:
        beside = source.path.parent if Path(name).exists() else Path()  # a hub id is downloaded to the hub's cache
        folder = beside / f"{source.title}-{kind}-gguf"
    convert_to_gguf(source, folder, kind)
    return folder


@app.command(epilog="Example: tinyllama publish runs/mini/exports/v1.1 --repo me/mini --dry-run")
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export: a Hugging Face folder, or one of GGUF.")],
    *,
    repo: Annotated[str, typer.Option(metavar="OWNER/NAME", help="The hub's repository, made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository is for its owner alone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send an export to the Hugging Face hub, in one commit. Log in first, by `hf auth login` or HF_TOKEN."""
    from tinyllama.export import files_to_send  # noqa: PLC0415  # imports torch
    from tinyllama.export import publish as send  # noqa: PLC0415  # as above

    files = files_to_send(folder, repo)
    url = None if dry_run else send(folder, repo, private=private)
    if as_json:
        print_json({"repo": repo, "files": files, "url": url})
        return
    for name, size in files.items():
        typer.echo(f"{size:>15,}  {name}")
    typer.echo(url or f"{sum(files.values()):>15,}  bytes would be sent to {repo}; nothing was")
