"""`tinyllama prepare` and `tinyllama corpus`: make corpora, and look into those that are there."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli.app import AsJson, Overrides, RecipeName, RunFolder, app, print_json

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus

corpus_app = typer.Typer(
    help="Look into prepared corpora.",
    epilog="Example: tinyllama corpus verify runs/nano/corpora/prose",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(corpus_app, name="corpus")

CorpusFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A prepared corpus: RUN/corpora/NAME.")]


class Executor(StrEnum):
    """Who prepares."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


@app.command(epilog="Example: tinyllama prepare mini --workers 2")
def prepare(  # noqa: PLR0913  # a command's options
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, or jobs at a time (default: all cores or machines there is text for)."),
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="Who does it: processes here, or a cluster that shares the folder.")
    ] = Executor.local,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For --executor slurm: an option of sbatch's.")
    ] = None,
    exact_all: Annotated[
        bool, typer.Option("--exact-all", help="Compare the ids of every document with SentencePiece's, not a sample.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Obtain the tokenizer and turn every corpus into token shards; goes on from where it was stopped."""
    from tinyllama.cli.progress import TerminalProgress  # noqa: PLC0415
    from tinyllama.errors import SourceError, UserError  # noqa: PLC0415
    from tinyllama.family.family import Family  # noqa: PLC0415
    from tinyllama.prepare.prepare import PrepareOptions  # noqa: PLC0415
    from tinyllama.recipe import load_recipe  # noqa: PLC0415

    if sbatch and executor != Executor.slurm:
        raise UserError("--sbatch goes with --executor slurm")
    options = {key.lstrip("-"): value for key, _, value in (option.partition("=") for option in sbatch or ())}
    loaded, screen = load_recipe(recipe, overrides or ()), TerminalProgress()
    prepare_options = PrepareOptions(workers, exact_all, executor.value, options, screen.say)
    family = Family(loaded, run or Path("runs") / loaded.name, Path(), screen, options=prepare_options)
    table = {name: _facts(corpus) for name, corpus in family.corpora.items()}
    if as_json:
        print_json(table)
    else:
        _print_table(table)
    if family.missing:
        raise SourceError("; ".join(f"{name}: {reason}" for name, reason in family.missing.items()))


def _facts(corpus: PreparedCorpus) -> dict[str, Any]:
    manifest = corpus.manifest
    return {"rejected": manifest.rejected, "quarantined": manifest.quarantined, "sha256": corpus.sha256} | {
        split: entry.model_dump(exclude={"shards"}) for split, entry in manifest.splits.items()
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


@corpus_app.command(epilog="Example: tinyllama corpus verify runs/nano/corpora/prose")
def verify(
    folder: CorpusFolder,
    *,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Look at so many parts of 4,096 documents (default: at everything).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find bit rot, a foreign tokenizer, ids out of range, stray special tokens and empty documents."""
    from tinyllama.corpus.manifest import open_corpus  # noqa: PLC0415
    from tinyllama.corpus.verification import find_damage  # noqa: PLC0415
    from tinyllama.errors import CorpusError  # noqa: PLC0415
    from tinyllama.tokenizer.opening import open_tokenizer  # noqa: PLC0415

    corpus = open_corpus(folder)
    findings = list(find_damage(corpus, open_tokenizer(_tokenizer_folder(folder)), sample))
    if as_json:
        print_json({"corpus": str(folder), "findings": [finding._asdict() for finding in findings]})
    elif not findings:
        typer.echo(f"{folder}: nothing is wrong")
    else:
        for finding in findings:
            typer.echo(f"{finding.place}: {finding.problem}")
    if findings:
        raise CorpusError(f"{folder}: {len(findings)} things are wrong; delete it and prepare it again")


@corpus_app.command(epilog="Example: tinyllama corpus inspect runs/nano/corpora/prose --origin json/decoder")
def inspect(
    folder: CorpusFolder,
    *,
    origin: Annotated[str | None, typer.Option(help="Show documents whose file or place has this in it.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Documents to show at most.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what a corpus is made of; with --origin, documents as they were tokenized."""
    from tinyllama.corpus.manifest import open_corpus  # noqa: PLC0415

    corpus = open_corpus(folder)
    if origin is None:
        facts = _facts(corpus) | corpus.manifest.model_dump(
            mode="json", include={"engine", "dtype", "license", "sources"}
        )
        print_json(facts) if as_json else _print_table({corpus.name: facts})
        return
    from tinyllama.corpus.reading import find_texts  # noqa: PLC0415
    from tinyllama.tokenizer.opening import open_tokenizer  # noqa: PLC0415

    found = find_texts(corpus, open_tokenizer(_tokenizer_folder(folder)), origin, limit)
    if as_json:
        print_json([text._asdict() for text in found])
        return
    for text in found:
        typer.echo(f"== {text.origin} (part {text.part}, {text.split}, token {text.start:,})\n{text.text}")


@corpus_app.command(epilog="Example: tinyllama corpus export runs/nano/corpora/prose --out exported/prose")
def export(
    folder: CorpusFolder,
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for <split>.bin and <split>.idx.")],
    as_json: AsJson = False,
) -> None:
    """Write a corpus as Megatron's indexed datasets; prints what its --data-path takes."""
    from tinyllama.corpus.manifest import open_corpus  # noqa: PLC0415
    from tinyllama.formats.megatron import write_megatron  # noqa: PLC0415

    prefixes = [str(prefix) for prefix in write_megatron(open_corpus(folder), out)]
    if as_json:
        print_json(prefixes)
    else:
        typer.echo("\n".join(prefixes))


def _tokenizer_folder(folder: Path) -> Path:
    """The tokenizer of the family that a corpus lies in."""
    return folder.resolve().parents[1] / "tokenizer"
