"""`tinyllama prepare` and `tinyllama corpus`: make corpora, and look into those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli.app import AsJson, Overrides, RecipeName, RunFolder, app, print_json

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus


@app.command(epilog="Example: tinyllama prepare mini --workers 2")
def prepare(  # noqa: PLR0913  # a command's options
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: as many as cores).")] = None,
    exact_all: Annotated[
        bool, typer.Option("--exact-all", help="Compare the ids of every document with SentencePiece's, not a sample.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Obtain the tokenizer and turn every corpus into token shards; goes on from where it was stopped."""
    from tinyllama.cli.family import Family  # noqa: PLC0415
    from tinyllama.cli.progress import Screen  # noqa: PLC0415
    from tinyllama.corpus.prepare import How  # noqa: PLC0415
    from tinyllama.errors import SourceError  # noqa: PLC0415
    from tinyllama.recipe import load_recipe  # noqa: PLC0415

    loaded, how = load_recipe(recipe, overrides or ()), How(workers, exact_all)
    family = Family(loaded, run or Path("runs") / loaded.name, Path(), Screen(), how=how)
    table = {name: _facts(corpus) for name, corpus in family.corpora.items()}
    if as_json:
        print_json(table)
    else:
        _print_table(table)
    if family.missing:
        raise SourceError("; ".join(f"{name}: {reason}" for name, reason in family.missing.items()))


def _facts(corpus: PreparedCorpus) -> dict[str, Any]:
    manifest = corpus.manifest
    return {"rejected": manifest["rejected"], "kept_aside": manifest["kept_aside"], "sha256": corpus.sha256} | {
        split: {key: facts[key] for key in ("documents", "tokens", "bytes")}
        for split, facts in manifest["splits"].items()
    }


def _print_table(rows: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table  # noqa: PLC0415

    from tinyllama.cli.tables import output  # noqa: PLC0415

    table = Table("corpus", "split", box=None)
    for column in ("documents", "bytes", "tokens", "bytes/token", "rejected"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        for split in ("train", "held_out"):
            documents, tokens, size = (row[split][key] for key in ("documents", "tokens", "bytes"))
            ratio = f"{size / tokens:.2f}" if tokens else "-"
            rejected = f"{row['rejected']:,}" if split == "train" else ""
            table.add_row(name, split, f"{documents:,}", f"{size:,}", f"{tokens:,}", ratio, rejected)
    output().print(table)
