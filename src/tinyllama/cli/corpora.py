"""`tinyllama prepare` and `tinyllama corpus`: prepare corpora and inspect prepared ones."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import (
    HELP_OPTIONS,
    AsJson,
    Overrides,
    RecipeName,
    RefreshCorpora,
    RunFolder,
    app,
    open_family,
    print_json,
    refuse_options,
    say_next,
    whole,
)
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyllama.corpus.manifest import CorpusManifest, PreparedCorpus
    from tinyllama.files import Json

corpus_app = typer.Typer(
    help="Inspect, verify and export prepared corpora.",
    epilog="Example: tinyllama corpus verify runs/nano/corpora/prose",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
)
tokenizer_app = typer.Typer(
    help="Train tokenizers.",
    epilog="Example: tinyllama tokenizer train nano --out my-tokenizer",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
)

CorpusFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", parser=expand_path, help="A prepared corpus: RUN/corpora/NAME.")
]


class Executor(StrEnum):
    """Where preparation runs."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


@app.command(
    short_help="Convert a recipe's text to token shards; resumes.",
    epilog="Example: tinyllama prepare mini --workers 2",
)
def prepare(  # a command's options
    recipe: RecipeName,
    *,
    overrides: Overrides = None,
    run: RunFolder = None,
    workers: Annotated[
        int | None,
        whole("Worker processes or cluster jobs (default: based on the size of the text)."),
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="Run on this machine, or on a cluster that shares the folder.")
    ] = Executor.local,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option for sbatch (with --executor slurm).")
    ] = None,
    exact_all: Annotated[
        bool,
        typer.Option("--exact-all", help="Compare the ids of every document with SentencePiece's, not only a sample."),
    ] = False,
    refresh_corpora: RefreshCorpora = False,
    reuse: Annotated[
        Path | None,
        typer.Option(
            metavar="FAMILY",
            parser=expand_path,
            help="Link the tokenizer and corpora of another family's folder where they are the same.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Obtain the tokenizer and convert every corpus to token shards. If interrupted, run it again to resume."""
    from tinyllama.errors import UserError
    from tinyllama.prepare.prepare import PrepareOptions

    if sbatch and executor != Executor.slurm:
        raise UserError("--sbatch needs --executor slurm")
    settings = {key.lstrip("-"): value for key, _, value in (option.partition("=") for option in sbatch or ())}
    family = open_family(recipe, overrides, run)
    progress = family.work.progress
    prepared = family.prepare(
        PrepareOptions(workers, exact_all, executor.value, settings, progress.say, refresh_corpora, reuse)
    )
    if as_json:
        print_json({name: _counts(corpus) for name, corpus in prepared.corpora.items()})
    else:
        _print_table(prepared.corpora.values())
    prepared.require_all()
    family.check_prepared()
    say_next("train", recipe, overrides=overrides, run=run)


def _counts(corpus: PreparedCorpus) -> dict[str, Json]:
    """A corpus's contents, for JSON."""
    manifest = corpus.manifest
    splits = {split: entry.model_dump(exclude={"shards"}) for split, entry in manifest.splits.items()}
    return {"rejected": manifest.rejected, "quarantined": manifest.quarantined, "sha256": corpus.sha256, **splits}


def _print_table(corpora: Iterable[PreparedCorpus]) -> None:
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.corpus.manifest import TRAIN

    table = Table("corpus", "split", box=None)
    for column in ("documents", "bytes", "tokens", "bytes/token", "rejected"):
        table.add_column(column, justify="right")
    for corpus in corpora:
        for split, entry in corpus.manifest.splits.items():
            ratio = f"{entry.bytes / entry.tokens:.2f}" if entry.tokens else "-"
            rejected = f"{corpus.manifest.rejected:,}" if split == TRAIN else ""
            counts = (f"{count:,}" for count in (entry.documents, entry.bytes, entry.tokens))
            table.add_row(corpus.name, split, *counts, ratio, rejected)
    output().print(table)


def _print_origin(manifest: CorpusManifest) -> None:
    """Print what encoded a corpus, and its sources with the texts that stand for others."""
    from tinyllama.corpus.manifest import BuiltinEntry

    engine = manifest.engine
    typer.echo(f"engine: {engine.name}; ids of {engine.checked:,} documents compared with the tokenizer's own library")
    typer.echo(f"license: {manifest.license}")
    for source in manifest.sources:
        if isinstance(source, BuiltinEntry):
            instead = "" if source.replaces is None else f", instead of {source.replaces}, which was unavailable"
            typer.echo(f"source: {source.version} ({source.license}){instead}")
        else:
            typer.echo(f"source: {source.files}")


@corpus_app.command(
    short_help="Check for damage, a wrong tokenizer and stray ids.",
    epilog="Example: tinyllama corpus verify runs/nano/corpora/prose",
)
def verify(
    folder: CorpusFolder,
    *,
    sample: Annotated[int | None, whole("Check N random parts of 4,096 documents (default: all).")] = None,
    as_json: AsJson = False,
) -> None:
    """Check for bit rot, a wrong tokenizer, ids out of range, stray special tokens and empty documents."""
    from tinyllama.corpus.manifest import open_corpus
    from tinyllama.corpus.verification import find_damage
    from tinyllama.errors import CorpusError
    from tinyllama.layout import family_of_corpus
    from tinyllama.tokenizer.opening import open_tokenizer

    corpus = open_corpus(folder)
    findings = list(find_damage(corpus, open_tokenizer(family_of_corpus(folder).tokenizer), sample))
    if as_json:
        print_json({"corpus": str(folder), "findings": [finding._asdict() for finding in findings]})
    elif not findings:
        typer.echo(f"{folder}: no problems found")
    else:
        for finding in findings:
            typer.echo(f"{finding.location}: {finding.problem}")
    if findings:
        raise CorpusError(f"{folder}: {len(findings)} problems found; delete the folder and prepare the corpus again")


@corpus_app.command(
    short_help="Show counts and sources, or documents of an origin.",
    epilog="Example: tinyllama corpus inspect runs/nano/corpora/prose --origin json/decoder",
)
def inspect(
    ctx: typer.Context,
    folder: CorpusFolder,
    *,
    origin: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Show documents whose origin contains this text.")
    ] = None,
    limit: Annotated[int, whole("Maximum number of documents to show.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the counts and sources of a corpus; with --origin, its documents as they were tokenized."""
    from tinyllama.corpus.manifest import open_corpus

    if origin is None:
        refuse_options(ctx, {"limit"}, "without --origin TEXT, which shows documents")
    corpus = open_corpus(folder)
    if origin is None:
        if as_json:
            origin_keys = {"engine", "dtype", "license", "sources"}
            print_json(_counts(corpus) | corpus.manifest.model_dump(mode="json", include=origin_keys))
        else:
            _print_table([corpus])
            _print_origin(corpus.manifest)
        return
    from tinyllama.corpus.reading import find_texts
    from tinyllama.layout import family_of_corpus
    from tinyllama.tokenizer.opening import open_tokenizer

    found = find_texts(corpus, open_tokenizer(family_of_corpus(folder).tokenizer), origin, limit)
    if as_json:
        print_json([text._asdict() for text in found])
        return
    for text in found:
        typer.echo(f"== {text.origin} (part {text.part}, {text.split}, token {text.start:,})\n{text.text}")


@corpus_app.command(
    short_help="Write a corpus as Megatron indexed datasets.",
    epilog="Example: tinyllama corpus export runs/nano/corpora/prose --out exported/prose",
)
def export(
    folder: CorpusFolder,
    *,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="New folder for <split>.bin and <split>.idx.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a corpus as Megatron indexed datasets, and print the prefixes for --data-path."""
    from tinyllama.corpus.manifest import open_corpus
    from tinyllama.formats.megatron import write_megatron

    prefixes = [str(prefix) for prefix in write_megatron(open_corpus(folder), out)]
    if as_json:
        print_json(prefixes)
    else:
        typer.echo("\n".join(prefixes))


@tokenizer_app.command("train", epilog="Example: tinyllama tokenizer train nano --out my-tokenizer")
def tokenizer_train(
    recipe: RecipeName,
    *,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="Folder for tokenizer.model and tokenizer.json.")
    ],
    vocab_size: Annotated[
        int | None, whole("Number of ids (default: the recipe's model.vocab_size).", least=260)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train a Llama-style tokenizer on a recipe's corpora; use it with `tokenizer: {file: OUT/tokenizer.model}`."""
    from tinyllama.prepare.tokenizer import obtain_tokenizer
    from tinyllama.recipe import load_recipe
    from tinyllama.sources.checks import check_sources
    from tinyllama.sources.rejected import Reasons

    size_key = [] if vocab_size is None else [f"model.vocab_size={vocab_size}"]
    size = load_recipe(recipe, [*(overrides or []), *size_key, "tokenizer={builtin: llama2}"]).model.vocab_size
    training = f"tokenizer={{train: {{vocab_size: {size}}}}}"
    loaded = load_recipe(recipe, [*(overrides or []), *size_key, training])
    for name, corpus in loaded.corpora.items():
        check_sources(corpus, name, Path())
    reasons = Reasons()
    obtain_tokenizer(loaded, out, Path(), reasons)
    if skipped := str(reasons):
        typer.echo(f"The tokenizer did not learn from:{skipped}", err=True)
    model = out / "tokenizer.model"
    typer.echo(model)
    say_next("plan", recipe, overrides=[*(overrides or []), *size_key, f"tokenizer={{file: {json.dumps(str(model))}}}"])


app.add_typer(corpus_app, name="corpus")
app.add_typer(tokenizer_app, name="tokenizer")
