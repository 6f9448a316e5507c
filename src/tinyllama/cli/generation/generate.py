"""The command `generate`: continue prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, Device, Precision, app, as_text, print_json, whole
from tinyllama.cli.generation import options as opt
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tinyllama.files import Json
    from tinyllama.inference.logprobs import ScoredToken
    from tinyllama.tokenizer.base import Tokenizer


@app.command(
    short_help="Continue prompts with a model.",
    epilog='Example: tinyllama generate runs/mini/exports/v1.1 "The people of" --stop "."',
)
def generate(  # a command's options
    model: opt.ModelName,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="Texts to continue; - reads one from stdin.")
    ] = None,
    *,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            metavar="FILE",
            parser=expand_path,
            help="Continue the text of a file, without its last line break; may be repeated.",
        ),
    ] = None,
    n: Annotated[int, whole("Number of texts for each prompt.", most=1000)] = 1,
    max_new_tokens: Annotated[int, whole("Maximum number of new tokens.")] = 200,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    typical_p: opt.TypicalP = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    no_repeat_ngram_size: opt.NoRepeatNgram = None,
    bad_words: opt.BadWords = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text; may be repeated.")
    ] = None,
    logprobs: Annotated[
        int | None,
        whole("Show the log-probability of each new token, and those of the N most likely ones.", least=0, most=1000),
    ] = None,
    seed: opt.Seed = 0,
    precision: opt.ModelPrecision = Precision.FP32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Continue prompts; a single text streams.

    Sampling options default to those in the model's generation_config.json, and else to the model's own probabilities.
    """
    from tinyllama.errors import UserError
    from tinyllama.formats.open import open_model
    from tinyllama.inference import continue_prompts
    from tinyllama.inference.logprobs import score_token

    stops = list(map(as_text, stop or []))
    if "" in stops:
        raise UserError("--stop is empty; give the text to stop before")
    texts = _read_prompts(prompts or [], files or [])
    source = open_model(model)
    tokenizer = source.tokenizer()
    settings = opt.choose_sampling(
        source, tokenizer, bad_words, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        typical_p=typical_p, repetition_penalty=repetition_penalty, no_repeat_ngram_size=no_repeat_ngram_size,
    )  # fmt: skip
    weights = opt.load_model(source, precision, device)
    full: list[int] = []
    scored: dict[int, list[ScoredToken]] = {row: [] for row in range(len(texts) * n)}

    def score(row: int, new: int, logits: Tensor) -> None:
        if logprobs is not None:
            scored[row].append(score_token(logits.cpu().numpy(), new, logprobs))

    pieces = continue_prompts(
        weights, tokenizer, texts, settings, stops=stops, max_new_tokens=max_new_tokens, seed=seed, samples=n,
        on_full=full.append, on_token=score,
    )  # fmt: skip
    if len(scored) == 1 and not as_json:
        sys.stdout.write(texts[0])
        for (piece,) in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n" + _table(tokenizer, scored[0]))
    else:
        new = list(map("".join, zip(*pieces, strict=True)))
        order = [sample * len(texts) + prompt for prompt in range(len(texts)) for sample in range(n)]
        if as_json:
            entries: list[dict[str, Json]] = [{"prompt": texts[row % len(texts)], "text": new[row]} for row in order]
            if logprobs is not None:
                for entry, row in zip(entries, order, strict=True):
                    entry["tokens"] = _json(tokenizer, scored[row])
            print_json([*entries])
        else:
            whole_texts = [f"{texts[row % len(texts)]}{new[row]}\n{_table(tokenizer, scored[row])}" for row in order]
            sys.stdout.write("\n".join(whole_texts))
    for row in full:
        which = f" of prompt {row % len(texts) + 1}" if len(texts) > 1 else ""
        context = f"{source.shape.context:,}"
        typer.echo(
            f"note: the text{which} ends here because it fills the model's context of {context} tokens", err=True
        )


def _read_prompts(prompts: list[str], files: list[Path]) -> list[str]:
    """The texts to continue: arguments, stdin, then files; bytes that are no UTF-8 become U+FFFD.

    Raises:
        UserError: there is none.
    """
    from tinyllama.errors import UserError

    if not prompts and not files:
        raise UserError("there is no prompt; give a text, - for stdin, or --file FILE")
    texts = [_text(sys.stdin.buffer.read()) if prompt == "-" else as_text(prompt) for prompt in prompts]
    return texts + [_text(file.read_bytes()) for file in files]


def _text(data: bytes) -> str:
    """A text without its last line break, which editors and `echo` add and a model would continue after."""
    return data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _json(tokenizer: Tokenizer, scored: Sequence[ScoredToken]) -> list[Json]:
    return [
        {
            "id": entry.token,
            "token": tokenizer.piece(entry.token),
            "logprob": entry.logprob,
            "top": [{"id": other, "token": tokenizer.piece(other), "logprob": value} for other, value in entry.top],
        }
        for entry in scored
    ]


def _table(tokenizer: Tokenizer, scored: Sequence[ScoredToken]) -> str:
    """A line for each token: its log-probability in nats, the token, and the most likely ones of its place."""
    rows = [((entry.token, entry.logprob or 0.0), *entry.top) for entry in scored]
    cells = [[f"{value:.4f} {tokenizer.piece(token)}" for token, value in row] for row in rows]
    return "".join("\t".join(row) + "\n" for row in cells)
