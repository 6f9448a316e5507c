"""The command that continues prompts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, Precision, app, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tinyllama.tokenizer.base import Tokenizer


@app.command(epilog='Example: tinyllama generate runs/mini/exports/v1.1 "The people of" --stop "."')
def generate(  # noqa: PLR0913  # a command's options
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face folder or hub id, a GGUF file, or a run's folder.")
    ],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="Several are continued side by side.")],
    *,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is all.")] = 10,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01)] = 1.5,
    stop: Annotated[list[str] | None, typer.Option(help="The text ends before it; may be given several times.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    precision: Annotated[
        Precision, typer.Option(help="bf16 needs half the memory and, on a CPU that has it, half the time.")
    ] = Precision.FP32,
    as_json: AsJson = False,
) -> None:
    """Continue prompts, with the model card's sampling options as defaults; a single one as it is made."""
    from tinyllama.errors import UserError  # noqa: PLC0415
    from tinyllama.formats.models import find_model  # noqa: PLC0415  # imports torch
    from tinyllama.inference import Sampling, generate_batch, pack  # noqa: PLC0415  # as above
    from tinyllama.train.precision import DTYPES  # noqa: PLC0415  # as above

    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty)
    stops = stop or []
    if "" in stops:
        raise UserError("--stop is empty; give the text to stop before")
    source = find_model(model)
    tokenizer = source.tokenizer()
    ids = [tokenizer.encode_prompt(prompt) for prompt in prompts]
    weights = source.load(DTYPES[precision])
    pack(weights)
    steps = generate_batch(
        weights, ids, settings, eos_id=tokenizer.eos_id, max_new_tokens=max_new_tokens, seed=seed
    )  # fmt: skip
    if len(prompts) == 1 and not as_json:
        sys.stdout.write(prompts[0])
        for piece in _pieces(steps, tokenizer, ids, stops):
            sys.stdout.write(piece[0])
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    texts = list(map("".join, zip(*_pieces(steps, tokenizer, ids, stops), strict=True)))
    if as_json:
        print_json([{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)])
    else:
        typer.echo("\n\n".join(map("".join, zip(prompts, texts, strict=True))))


def _pieces(
    steps: Iterable[list[int | None]], tokenizer: Tokenizer, prompts: list[list[int]], stops: list[str]
) -> Iterator[list[str]]:
    """What each step adds to each text, until every text has ended."""
    from tinyllama.inference import TextStream  # noqa: PLC0415  # imports torch

    streams = [TextStream(tokenizer, ids, stops) for ids in prompts]
    for step in steps:
        yield [
            "" if new is None else stream.push(new) for new, stream in zip(step, streams, strict=True)
        ]  # fmt: skip
        if all(stream.stopped or new is None for new, stream in zip(step, streams, strict=True)):
            break
    yield [stream.finish() for stream in streams]
