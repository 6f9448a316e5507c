"""The commands. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tinyllama.family.family import Family
    from tinyllama.recipe import Recipe

app = typer.Typer(
    name="tinyllama",
    help="One recipe file in, an evaluated family of small Llama-compatible language models out.",
    epilog="Example: tinyllama reproduce nano",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
)
tokenizer_app = typer.Typer(help="Make tokenizers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tokenizer_app, name="tokenizer")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, e.g. --set seed=2."),
]
RunFolder = Annotated[Path | None, typer.Option("--run", help="The family's folder (default: runs/<recipe name>).")]
VariantName = Annotated[str | None, typer.Option("--variant", help="One variant (default: all).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EvaluationData = Annotated[
    Path | None, typer.Option("--data", help="Local copies of the tasks' data (default: the recipe's).")
]


class Precision(StrEnum):
    """Of a single model's weights and products."""

    FP32 = "fp32"
    BF16 = "bf16"


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,  # noqa: FBT002
) -> None:
    if version:
        from tinyllama import __version__  # noqa: PLC0415

        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: tinyllama recipes")
def recipes(*, as_json: AsJson = False) -> None:
    """List the shipped recipes."""
    from tinyllama.recipe import load_recipe, shipped_recipes  # noqa: PLC0415

    found = {name: load_recipe(name).description for name in shipped_recipes()}
    if as_json:
        print_json(found)
    else:
        for name, description in found.items():
            typer.echo(f"{name:16} {description}")


@app.command(epilog="Example: tinyllama plan tinyllama-v1.1 --hardware a100-40g --gpus 16 --price 1.5")
def plan(  # noqa: PLR0913  # a command's options
    recipe: RecipeName,
    *,
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the table here (one file; needs --variant).")] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="CARD", help="Predict memory, speed, days and cost on it, e.g. a100-40g.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many cards.")] = 1,
    mfu: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Assumed utilisation (default: the published run's, 0.52).")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of a GPU-hour, for the cost.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what each stage comes to: steps, tokens, batch, LR, shares, epochs; with --hardware, days and cost."""
    from tinyllama.cli.hardware import print_prediction  # noqa: PLC0415
    from tinyllama.cli.tables import output, print_plan  # noqa: PLC0415
    from tinyllama.errors import UserError  # noqa: PLC0415
    from tinyllama.plan import compile_plan, summarize  # noqa: PLC0415
    from tinyllama.plan.hardware import DEFAULT_MFU, predict  # noqa: PLC0415

    loaded = _load(recipe, overrides)
    if parquet is not None and variant is None:
        raise UserError("--parquet writes one table: name it with --variant")
    sizes = prepared_sizes(loaded, run)
    console, summaries, plans = output(), [], []
    for name in [variant] if variant else loaded.variants:
        compiled = compile_plan(loaded, name)
        plans.append(compiled)
        summaries.append(summarize(compiled, loaded, sizes))
        if parquet is not None:
            compiled.write_parquet(parquet)
        if not as_json:
            print_plan(console, summaries[-1])
    prediction = (
        None if hardware is None else predict(loaded, plans, hardware, gpus, mfu=mfu or DEFAULT_MFU, price=price)
    )
    if as_json:
        table = [summary.as_dict() for summary in summaries]
        print_json(table if prediction is None else {"plans": table, "hardware": prediction.as_dict()})
    elif prediction is not None:
        print_prediction(console, prediction)


@app.command(epilog="Example: tinyllama train mini --variant math_code")
def train(
    recipe: RecipeName, *, variant: VariantName = None, overrides: Overrides = None, run: RunFolder = None
) -> None:
    """Train the base once, then each variant from the fork; goes on from where it was stopped.

    On several GPUs or nodes: torchrun --nproc-per-node 4 -m tinyllama train RECIPE
    """
    from tinyllama.cli.progress import TerminalProgress  # noqa: PLC0415
    from tinyllama.errors import UserError  # noqa: PLC0415
    from tinyllama.family.family import Family  # noqa: PLC0415
    from tinyllama.layout import BASE  # noqa: PLC0415
    from tinyllama.train import join_ranks  # noqa: PLC0415  # imports torch

    loaded = _load(recipe, overrides)
    models = [BASE, *loaded.variants]
    if variant is not None and variant not in models:
        raise UserError(f"{loaded.name} has no variant {variant!r}; it has {', '.join(models)}")
    with join_ranks(loaded.hardware.collective_timeout) as ranks:
        screen = TerminalProgress(quiet=not ranks.first)
        family = Family(loaded, run or Path("runs") / loaded.name, Path(), screen, ranks=ranks)
        with ranks.phase("the preparation of the corpora; run `tinyllama prepare` before training"):
            ranks.run_on_rank0(lambda: len(family.corpora))
        for model in models if variant is None else dict.fromkeys([BASE, variant]):
            family.train(model)
            if ranks.first:
                typer.echo(family.folder / model)


@app.command(epilog="Example: tinyllama report mini")
def report(
    recipe: RecipeName, *, overrides: Overrides = None, run: RunFolder = None, data: EvaluationData = None
) -> None:
    """Evaluate and export what is trained, and write summary.json and report.html."""
    from tinyllama.family.reproduce import conclude  # noqa: PLC0415

    family = open_family(recipe, overrides, run)
    conclude(family, data_folder(family.recipe, data))
    typer.echo(family.folder / "report.html")


@app.command(epilog="Example: tinyllama reproduce mini")
def reproduce(
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    data: EvaluationData = None,
    as_json: AsJson = False,
) -> None:
    """Do all of it in order: prepare, train, evaluate, export, report. Skips what is done and valid."""
    from tinyllama.errors import SourceError  # noqa: PLC0415
    from tinyllama.family.reproduce import reproduce  # noqa: PLC0415

    family = open_family(recipe, overrides, run)
    summary = reproduce(family, data_folder(family.recipe, data))
    if as_json:
        print_json(summary)
    else:
        print_scores(family, summary)
        for folder in summary["exports"].values():
            typer.echo(family.folder / folder)
        typer.echo(family.folder / "report.html")
    if family.missing:
        raise SourceError("; ".join(f"{name}: {reason}" for name, reason in family.missing.items()))


@tokenizer_app.command("train", epilog="Example: tinyllama tokenizer train nano --out my-tokenizer")
def tokenizer_train(
    recipe: RecipeName,
    *,
    out: Annotated[Path, typer.Option(help="Folder for tokenizer.model and tokenizer.json.")],
    vocab_size: Annotated[int | None, typer.Option(min=260, help="Default: the recipe's model.vocab_size.")] = None,
    overrides: Overrides = None,
) -> None:
    """Train a Llama-style tokenizer on a recipe's corpora; use it by `tokenizer: {file: OUT/tokenizer.model}`."""
    from tinyllama.prepare.tokenizer import obtain_tokenizer  # noqa: PLC0415

    asked = [] if vocab_size is None else [f"model.vocab_size={vocab_size}"]
    size = _load(recipe, [*(overrides or []), *asked, "tokenizer={builtin: llama2}"]).model.vocab_size
    settings = f"tokenizer={{train: {{vocab_size: {size}}}}}"
    loaded = _load(recipe, [*(overrides or []), *asked, settings])
    obtain_tokenizer(loaded, out, Path(), lambda _rejected: None)
    typer.echo(out / "tokenizer.model")


def _load(name: str, overrides: list[str] | None) -> Recipe:
    from tinyllama.recipe import load_recipe  # noqa: PLC0415

    return load_recipe(name, overrides or ())


def is_recipe(name: str) -> bool:
    """Whether a person named a recipe, not a model."""
    from tinyllama.recipe import shipped_recipes  # noqa: PLC0415

    return name.endswith((".yaml", ".yml")) or name in shipped_recipes()


def open_family(name: str, overrides: list[str] | None, run: Path | None) -> Family:
    """The family of a recipe, in its folder."""
    from tinyllama.cli.progress import TerminalProgress  # noqa: PLC0415
    from tinyllama.family.family import Family  # noqa: PLC0415

    recipe = _load(name, overrides)
    return Family(recipe, run or Path("runs") / recipe.name, Path(), TerminalProgress())


def data_folder(recipe: Recipe, data: Path | None) -> Path:
    """Where the tasks' data is: as asked, or as the recipe says."""
    return data or Path(recipe.evaluation.data)


def prepared_sizes(recipe: Recipe, run: Path | None) -> dict[str, int]:
    """Training tokens of the corpora that are prepared."""
    from tinyllama.corpus.manifest import MANIFEST, TRAIN, open_corpus  # noqa: PLC0415

    folder = (run or Path("runs") / recipe.name) / "corpora"
    names = [name for name in recipe.corpora if (folder / name / MANIFEST).is_file()]
    return {name: open_corpus(folder / name).tokens(TRAIN) for name in names}


def print_json(value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Print a JSON value to stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_scores(family: Family, scores: dict[str, Any]) -> None:
    """Print a family's bits per byte and task scores as tables."""
    from tinyllama.cli.tables import output, print_matrix, print_tasks  # noqa: PLC0415

    console = output()
    print_matrix(console, scores["bits_per_byte"], list(family.corpora))
    print_tasks(console, scores["tasks"])
