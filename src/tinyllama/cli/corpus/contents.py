"""`tinyllama corpus stats`, `corpus sample` and `corpus diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, any_seed, print_json, say_next, whole
from tinyllama.cli.corpora import CorpusFolder, corpus_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.contents.difference import CorpusDifference
    from tinyllama.corpus.contents.statistics import CorpusStatistics
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.tokenizer.base import Tokenizer

_SMALLEST = 0.0005
"""Shares below this are not shown."""


@corpus_app.command(
    short_help="Show sizes, languages, largest files and copies.",
    epilog="Example: tinyllama corpus stats runs/nano/corpora/prose",
)
def stats(
    folder: CorpusFolder,
    *,
    sample: Annotated[int, whole("Documents to decode for languages and scripts.")] = 1000,
    top: Annotated[int, whole("Number of origins to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show sizes, lengths, languages, scripts, the largest files, documents that repeat, and what was dropped."""
    from tinyllama.corpus.contents.statistics import corpus_statistics
    from tinyllama.corpus.manifest import open_corpus

    corpus = open_corpus(folder)
    found = corpus_statistics(corpus, _tokenizer_of(folder), sample, top)
    if as_json:
        origins = [origin._asdict() for origin in found.origins]
        print_json(
            found._asdict()
            | {"bytes_per_token": found.bytes_per_token, "origins": origins, "dropped": _dropped(corpus)}
        )
        return
    for line in _stats_lines(found, _dropped(corpus)):
        typer.echo(line)
    say_next("corpus", "sample", str(folder))


@corpus_app.command(
    short_help="Show random documents as they were tokenized.",
    epilog="Example: tinyllama corpus sample runs/nano/corpora/prose --n 3 --seed 7",
)
def sample(
    folder: CorpusFolder,
    *,
    n: Annotated[int, whole("Number of documents.")] = 5,
    seed: Annotated[int, any_seed("The same seed shows the same documents.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show random documents as they were tokenized, each with its origin."""
    from tinyllama.corpus.contents.sampling import sample_texts
    from tinyllama.corpus.manifest import open_corpus

    texts = sample_texts(open_corpus(folder), _tokenizer_of(folder), n, seed)
    if as_json:
        print_json([text._asdict() for text in texts])
        return
    for text in texts:
        typer.echo(f"== {text.origin} (part {text.part}, {text.split}, token {text.start:,})\n{text.text}")


@corpus_app.command(
    short_help="Show what changed between two preparations.",
    epilog="Example: tinyllama corpus diff runs/nano/corpora/prose runs/nano/corpora/prose@2",
)
def diff(
    before: CorpusFolder,
    after: CorpusFolder,
    *,
    limit: Annotated[int, whole("Number of documents to name of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what changed between two preparations: keys of the recipe, and documents by content and origin."""
    from tinyllama.corpus.contents.difference import corpus_difference
    from tinyllama.corpus.manifest import open_corpus

    first, second = open_corpus(before), open_corpus(after)
    ours, theirs = (corpus.manifest.request for corpus in (first, second))
    same_ids = (ours.tokenizer, ours.bos, ours.eos) == (theirs.tokenizer, theirs.bos, theirs.eos)
    found = corpus_difference(first, second, None if same_ids else (_tokenizer_of(before), _tokenizer_of(after)), limit)
    if as_json:
        tallies = {kind: tally._asdict() for kind, tally in found.tallies.items()}
        print_json({"keys": {key: list(values) for key, values in found.keys.items()}, **tallies})
        return
    for line in _diff_lines(found):
        typer.echo(line)


def _tokenizer_of(folder: Path) -> Tokenizer:
    from tinyllama.layout import family_of_corpus
    from tinyllama.tokenizer.opening import open_tokenizer

    return open_tokenizer(family_of_corpus(folder).tokenizer)


def _dropped(corpus: PreparedCorpus) -> dict[str, int]:
    quality = corpus.manifest.quality
    return {} if quality is None else dict(quality.dropped)


def _stats_lines(found: CorpusStatistics, dropped: Mapping[str, int]) -> Iterable[str]:
    from tinyllama.text import percent

    yield f"documents         {found.documents:,}"
    yield f"tokens            {found.tokens:,}"
    yield f"bytes             {found.bytes:,} ({found.bytes_per_token:.2f} for each token)"
    yield f"tokens/document   {', '.join(f'{name} {length:,}' for name, length in found.lengths.items())}"
    if found.languages is None:
        yield f"languages         unknown: {_install_languages()}"
    else:
        yield f"languages         {_shares(found.languages)}"
    yield f"scripts           {_shares(found.scripts)}"
    yield f"                  (shares of the bytes of {found.sampled:,} random documents)"
    share = percent(found.repeated_bytes / found.bytes)
    yield f"repeated          {found.repeated:,} documents occur before, {share}% of the bytes"
    yield f"origins           {found.different_origins:,}; those with the most tokens:"
    for origin in found.origins:
        yield f"  {origin.tokens:>14,}  {origin.documents:>10,} documents  {origin.name}"
    if dropped:
        yield f"dropped           {sum(dropped.values()):,} documents"
        for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0])):
            yield f"  {count:>14,}  {reason}"


def _shares(shares: Mapping[str, float]) -> str:
    shown = [f"{name or 'no letters'} {share:.1%}" for name, share in shares.items() if share >= _SMALLEST]
    return ", ".join(shown)


def _install_languages() -> str:
    from tinyllama.installation import install_hint

    return f"py3langid is not installed: {install_hint('quality')}"


def _diff_lines(found: CorpusDifference) -> Iterable[str]:
    for key, (before, after) in found.keys.items():
        yield f"key {key}: {before} -> {after}"
    for kind, tally in found.tallies.items():
        yield f"{kind:8} {tally.documents:>12,} documents {tally.tokens:>16,} tokens {tally.bytes:>16,} bytes"
        if kind != "kept":
            yield from _named(tally.named)
    if found.is_empty:
        yield "both hold the same documents"


def _named(origins: Sequence[str]) -> Iterable[str]:
    return (f"  {origin}" for origin in origins)
