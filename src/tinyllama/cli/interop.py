"""Commands that import, export and publish models."""

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
    is_recipe,
    open_family,
    print_json,
    refuse_options,
    say_next,
)
from tinyllama.cli.training import say_generate
from tinyllama.errors import RecipeError, UserError
from tinyllama.paths import expand_path, printable_path


class Format(StrEnum):
    """Target of an export: transformers-compatible tools or llama.cpp."""

    hf = "hf"
    gguf = "gguf"


class Precision(StrEnum):
    """Number formats of exported matrices; those from Q8_0 on are GGUF's."""

    f32 = "F32"
    f16 = "F16"
    bf16 = "BF16"
    q8_0 = "Q8_0"
    q6_k = "Q6_K"
    q5_k_m = "Q5_K_M"
    q4_k_m = "Q4_K_M"
    q4_0 = "Q4_0"
    iq4_nl = "IQ4_NL"


@app.command(
    "import",
    short_help="Import a Llama model as the start of a recipe.",
    epilog="Example: tinyllama import TinyLlama/TinyLlama_v1.1 --recipe continue",
)
def import_model(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A Hugging Face folder or hub id, a GGUF file, or a checkpoint (default: the recipe's start.model).",
        ),
    ] = None,
    *,
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="RECIPE", help="The recipe that continues the model; has a `start` section."),
    ],
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Import a Llama model as a recipe's starting checkpoint, after a check against transformers."""
    from tinyllama.recipe import load_recipe  # imports pydantic
    from tinyllama.train.import_start import stated_start

    named = [] if model is None else [f"start.model={model}"]
    try:
        family = open_family(recipe, [*(overrides or []), *named], run)
    except RecipeError:
        stated_start(load_recipe(recipe, overrides or ()))
        raise
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
        say_next("reproduce", recipe, overrides=[*(overrides or []), *named], run=run)


@app.command(
    short_help="Write models as Hugging Face folders or GGUF files.",
    epilog="Example: tinyllama export mini --format gguf --precision Q8_0",
)
def export(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="A recipe (its whole family); with GGUF, also a single model: its folder, checkpoint or hub id.",
        ),
    ],
    *,
    form: Annotated[
        Format, typer.Option("--format", help="Folder for transformers (hf), or file for llama.cpp (gguf).")
    ] = Format.hf,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Number format of the matrices (default: F32 for hf, which also has F16 and BF16; F16 for gguf).",
            case_sensitive=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=expand_path,
            help="Text file, or prepared corpus, to measure a quantized single model on (types from Q6_K on).",
        ),
    ] = None,
    imatrix: Annotated[
        bool, typer.Option("--imatrix", help="Quantize with an importance matrix, computed on more of the text.")
    ] = False,
    overrides: Overrides = None,
    run: RunFolder = None,
    data: EvaluationData = None,
) -> None:
    """Write every trained model of a family as a Hugging Face folder, or as GGUF with an Ollama Modelfile.

    Types from Q6_K on are quantized by llama.cpp and compared with the F32 model on held-out text.
    A single model, such as a fine-tuned one, is exported to GGUF in the folder <its name>-<precision>-gguf next to it.
    """
    from tinyllama.formats.gguf.quantizer import QUANTIZED  # imports pydantic

    if not is_recipe(name):
        refuse_options(ctx, {"overrides", "run", "data"}, "with a single model, only with a recipe")
        if precision not in QUANTIZED:
            refuse_options(ctx, {"text", "imatrix"}, "without a quantized type, such as --precision Q4_K_M")
        folder = _export_single(name, form, precision or Precision.f16, text, imatrix=imatrix)
        typer.echo(folder)
        say_generate(folder)
        return
    refuse_options(ctx, {"text"}, "with a recipe, whose held-out text is used; only with a single model")
    family = open_family(name, overrides, run)
    folders = [*family.export(form, precision=precision, data=data, imatrix=imatrix).values()]
    for folder in folders:
        typer.echo(folder)
    for folder in folders[:1]:
        say_generate(folder, family.recipe.evaluation.prompts)


def _export_single(name: str, form: Format, precision: Precision, text: Path | None, *, imatrix: bool) -> Path:
    from tinyllama.checkpoint.format import STATE
    from tinyllama.export import HeldOutText, QuantizationRecord, convert_to_gguf
    from tinyllama.family.evaluate_model import open_text
    from tinyllama.formats.model_source import CheckpointModel
    from tinyllama.formats.open import open_model
    from tinyllama.recipe import shipped_recipes

    if form == Format.hf:
        recipes = ", ".join(shipped_recipes())
        raise UserError(f"{name} is not a recipe ({recipes} or a YAML file); a single model needs --format gguf")
    source = open_model(name)
    if isinstance(source, CheckpointModel):
        step = f"-{source.path.name}" if (Path(name) / STATE).is_file() else ""  # steps do not replace each other
        folder = source.family.export(f"{source.model}{step}-{precision}-gguf")
    else:
        beside = source.path.parent if Path(name).exists() else Path()  # a hub id is downloaded to the hub's cache
        folder = beside / f"{source.title}-{precision}-gguf"
    held_out = None
    if text is not None:
        held_out = HeldOutText({printable_path(text): open_text(text).documents}, source.adds_bos, imatrix)
    result = convert_to_gguf(source, folder, precision, held_out)
    if isinstance(result, QuantizationRecord) and result.warning:
        typer.echo(f"note: {result.warning}", err=True)
    return folder


@app.command(
    short_help="Upload an export to the Hugging Face hub.",
    epilog="Example: tinyllama publish runs/mini/exports/v1.1 --repo me/mini --dry-run",
)
def publish(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", parser=expand_path, help="An exported Hugging Face or GGUF folder.")
    ],
    *,
    repo: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository on the hub; created if missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files to upload.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload an export to the Hugging Face hub in one commit. Log in first: `hf auth login`, or set HF_TOKEN."""
    from tinyllama.export import files_to_send  # imports torch
    from tinyllama.export import publish as send

    files = files_to_send(folder, repo)
    url = None if dry_run else send(folder, repo, private=private)
    if as_json:
        print_json({"repo": repo, "files": files, "url": url})
        return
    for name, size in files.items():
        typer.echo(f"{size:>15,}  {name}")
    typer.echo(url or f"{sum(files.values()):>15,}  bytes would be uploaded to {repo}; nothing was uploaded")
